"""Recurrent identity network: a vanilla network with a residual connection."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import KW_ONLY, dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array
from jax.nn import relu

from jaxrnn import _check as check
from jaxrnn.initializers import glorot_uniform
from jaxrnn.layer import Cell, Keys
from jaxrnn.ops import affine, zeros


class ResidualElmanParams(NamedTuple):
    w_x: Array  # [input, hidden]
    w_h: Array  # [hidden, hidden]
    b: Array  # [hidden]


class ResidualElmanState(NamedTuple):
    h: Array  # [*batch, hidden]


@dataclass(frozen=True)
class ResidualElman(Cell):
    r"""Recurrent identity network (RIN): a vanilla network that adds its state before the activation.

    It is `Elman` with a residual connection from one state to the next, which lets gradients pass many steps.

    .. math:: h_t = \phi(W x_t + U h_{t-1} + h_{t-1} + b)

    The output is :math:`h_t`. Initially, :math:`U` is normal with a standard deviation of 0.001, so that the state
    passes almost unchanged.

    Example:
      >>> cell = jaxrnn.ResidualElman(hidden_size=64, activation=jnp.tanh)
      >>> params = cell.init(jax.random.key(0), input_size=8)
      >>> state, ys = jaxrnn.unroll(cell, params, jnp.zeros((20, 32, 8)))  # [time, batch, input]
      >>> ys.shape
      (20, 32, 64)

    Args:
      hidden_size: Size of :math:`h`.
      activation: :math:`\phi`, an elementwise function such as `jax.nn.relu` or `jnp.tanh`.

    References:
      Y. Hu, A. Huber, J. Anumula, S. Liu, "Overcoming the vanishing gradient problem in plain recurrent networks",
      2018.
    """

    hidden_size: int
    _: KW_ONLY
    activation: Callable[[Array], Array] = relu

    def __post_init__(self) -> None:
        check.positive(self, "hidden_size")
        check.function(self, "activation")

    def init(self, key: Array, input_size: int) -> ResidualElmanParams:
        n = self.hidden_size
        k_x, k_h = jax.random.split(key)
        w_h = 0.001 * jax.random.normal(k_h, (n, n))
        return ResidualElmanParams(glorot_uniform(k_x, (input_size, n)), w_h, jnp.zeros(n))

    def initial_state(self, params, batch_shape=(), dtype=None) -> ResidualElmanState:
        return ResidualElmanState(*zeros(params, batch_shape, dtype, self.hidden_size))

    def project(self, params: ResidualElmanParams, x: Array, key: Keys = None) -> Array:
        return affine(x, params.w_x, params.b)

    def step(self, params: ResidualElmanParams, state: ResidualElmanState, z: Array) -> ResidualElmanState:
        return ResidualElmanState(h=self.activation(z + state.h @ params.w_h + state.h))

    def readout(self, params: ResidualElmanParams, state: ResidualElmanState, z: Array) -> Array:
        return state.h
