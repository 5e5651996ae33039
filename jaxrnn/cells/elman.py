"""Vanilla recurrent network."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import KW_ONLY, dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from jaxrnn import _check as check
from jaxrnn.initializers import glorot_uniform, orthogonal
from jaxrnn.layer import Cell, Keys
from jaxrnn.ops import affine, tanh, zeros


class ElmanParams(NamedTuple):
    w_x: Array  # [input, hidden]
    w_h: Array  # [hidden, hidden]
    b: Array  # [hidden]


class ElmanState(NamedTuple):
    h: Array  # [*batch, hidden]


@dataclass(frozen=True)
class Elman(Cell):
    r"""Vanilla recurrent network, also known as Elman's simple recurrent network.

    It is the simplest of the cells. Its gradients tend to vanish or explode over long sequences, which gated cells such
    as `GRU` and `LSTM` mitigate.

    .. math:: h_t = \phi(W x_t + R h_{t-1} + b)

    The output is :math:`h_t`.

    Example:
      >>> cell = jaxrnn.Elman(hidden_size=32)
      >>> params = cell.init(jax.random.key(0), input_size=8)
      >>> state, ys = jaxrnn.unroll(cell, params, jnp.zeros((20, 4, 8)))  # [time, batch, input]
      >>> ys.shape
      (20, 4, 32)

      The IRNN of Le et al. has rectified units, and begins with the identity as its recurrent matrix:

      >>> cell = jaxrnn.Elman(hidden_size=32, activation=jax.nn.relu)
      >>> params = cell.init(jax.random.key(0), input_size=8)
      >>> params = params._replace(w_h=jnp.eye(32))

    Args:
      hidden_size: Size of :math:`h`.
      activation: :math:`\phi`, an elementwise function such as `jnp.tanh` or `jax.nn.relu`.

    References:
      J. Elman, "Finding structure in time", 1990; Q. Le, N. Jaitly, G. Hinton, "A simple way to initialize recurrent
      networks of rectified linear units", 2015, for the IRNN.

    Deviations:
      The default activation is tanh, where the paper has the logistic function. The gradient is propagated through all
      time steps, where the paper's stops after one step.
    """

    hidden_size: int
    _: KW_ONLY
    activation: Callable[[Array], Array] = tanh

    def __post_init__(self) -> None:
        check.positive(self, "hidden_size")
        check.function(self, "activation")

    def init(self, key: Array, input_size: int) -> ElmanParams:
        n = self.hidden_size
        k_x, k_h = jax.random.split(key)
        return ElmanParams(glorot_uniform(k_x, (input_size, n)), orthogonal(k_h, (n, n)), jnp.zeros(n))

    def initial_state(self, params, batch_shape=(), dtype=None) -> ElmanState:
        return ElmanState(*zeros(params, batch_shape, dtype, self.hidden_size))

    def project(self, params: ElmanParams, x: Array, key: Keys = None) -> Array:
        return affine(x, params.w_x, params.b)

    def step(self, params: ElmanParams, state: ElmanState, z: Array) -> ElmanState:
        return ElmanState(h=self.activation(z + state.h @ params.w_h))

    def readout(self, params: ElmanParams, state: ElmanState, z: Array) -> Array:
        return state.h
