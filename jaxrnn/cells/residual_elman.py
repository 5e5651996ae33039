"""The recurrent identity network: a vanilla network with a residual connection."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array
from jax.nn import relu

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
    r"""Recurrent identity network (RIN): the vanilla network with the state added before the activation.

    .. math:: h_t = \phi(W x_t + U h_{t-1} + h_{t-1} + b)

    The output is :math:`h_t`. At first :math:`U` is normal, of standard deviation 0.001, so that the state passes
    almost unchanged.

    Args:
      hidden_size: size of :math:`h`.
      activation: :math:`\phi`, elementwise, such as `jax.nn.relu` or `jnp.tanh`.

    References: Y. Hu, A. Huber, J. Anumula, S. Liu, "Overcoming the vanishing gradient problem in plain recurrent
    networks", 2018.
    """

    hidden_size: int
    activation: Callable[[Array], Array] = relu

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
