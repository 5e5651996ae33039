"""Vanilla recurrent network with a weighted residual connection."""

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
from jaxrnn.ops import affine, sigmoid, tanh, zeros


class FastRNNParams(NamedTuple):
    w_x: Array  # [input, hidden]
    w_h: Array  # [hidden, hidden]
    b: Array  # [hidden]
    alpha: Array  # [], before the sigmoid
    beta: Array  # [], before the sigmoid


class FastRNNState(NamedTuple):
    h: Array  # [*batch, hidden]


@dataclass(frozen=True)
class FastRNN(Cell):
    r"""FastRNN: the vanilla network with a residual connection that has two trained weights.

    `FastGRNN` adds a gate.

    .. math::
        \tilde h_t &= \phi(W x_t + R h_{t-1} + b) \\
        h_t &= \sigma(\alpha) \tilde h_t + \sigma(\beta) h_{t-1}

    The output is :math:`h_t`.

    Example:
      >>> cell = jaxrnn.FastRNN(hidden_size=32)
      >>> params = cell.init(jax.random.key(0), input_size=8)
      >>> round(float(jax.nn.sigmoid(params.beta)), 2)  # the share of the state that a step keeps, at first
      0.95
      >>> state, ys = jaxrnn.unroll(cell, params, jnp.zeros((20, 4, 8)))  # [time, batch, input]
      >>> ys.shape
      (20, 4, 32)

    Args:
      hidden_size: Size of :math:`h`.
      alpha: Initial value of :math:`\alpha`, which sets how much a step writes.
      beta: Initial value of :math:`\beta`, which sets how much a step keeps.
      activation: :math:`\phi`, an elementwise function such as `jnp.tanh` or `jax.nn.relu`.

    References:
      A. Kusupati et al., "FastGRNN: a fast, accurate, stable and tiny kilobyte sized gated recurrent neural network",
      2018.
    """

    hidden_size: int
    _: KW_ONLY
    alpha: float = -3.0
    beta: float = 3.0
    activation: Callable[[Array], Array] = tanh

    def __post_init__(self) -> None:
        check.positive(self, "hidden_size")
        check.finite(self, "alpha", "beta")
        check.function(self, "activation")

    def init(self, key: Array, input_size: int) -> FastRNNParams:
        n = self.hidden_size
        k_x, k_h = jax.random.split(key)
        w_x, w_h = glorot_uniform(k_x, (input_size, n)), orthogonal(k_h, (n, n))
        return FastRNNParams(w_x, w_h, jnp.zeros(n), jnp.full((), self.alpha), jnp.full((), self.beta))

    def initial_state(self, params, batch_shape=(), dtype=None) -> FastRNNState:
        return FastRNNState(*zeros(params, batch_shape, dtype, self.hidden_size))

    def project(self, params: FastRNNParams, x: Array, key: Keys = None) -> Array:
        return affine(x, params.w_x, params.b)

    def step(self, params: FastRNNParams, state: FastRNNState, z: Array) -> FastRNNState:
        h = self.activation(z + state.h @ params.w_h)
        return FastRNNState(h=sigmoid(params.alpha) * h + sigmoid(params.beta) * state.h)

    def readout(self, params: FastRNNParams, state: FastRNNState, z: Array) -> Array:
        return state.h
