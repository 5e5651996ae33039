"""Simple gated recurrent network."""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass
from typing import NamedTuple

import jax
from jax import Array

from jaxrnn import _check as check
from jaxrnn.initializers import Chrono, gate_biases, glorot_uniform, orthogonal
from jaxrnn.layer import Cell, Keys
from jaxrnn.ops import affine, align, sigmoid, tanh, zeros


class SGRNParams(NamedTuple):
    w_x: Array  # [input, hidden]
    w_h: Array  # [hidden, hidden]
    b: Array  # [hidden]


class SGRNState(NamedTuple):
    h: Array  # [*batch, hidden]


class SGRNGates(NamedTuple):
    f: Array  # [*batch, hidden], forget gate


@dataclass(frozen=True)
class SGRN(Cell):
    r"""Simple gated recurrent network: one gate, computed from the same product with the input that it admits.

    It has as many parameters as `Elman`, because the gate and the candidate share one product with the input.

    .. math::
        f_t &= \sigma(W x_t + R h_{t-1} + b) \\
        h_t &= \tanh((1 - f_t) \odot W x_t + f_t \odot h_{t-1})

    The output is :math:`h_t`.

    Example:
      >>> cell = jaxrnn.SGRN(hidden_size=64)
      >>> params = cell.init(jax.random.key(0), input_size=8)
      >>> state, ys = jaxrnn.unroll(cell, params, jnp.zeros((20, 32, 8)))  # [time, batch, input]
      >>> ys.shape
      (20, 32, 64)

    Args:
      hidden_size: Size of :math:`h`.
      forget_bias: Initial value of :math:`b`: a number, or `Chrono(longest)`. Above zero the state lasts longer.

    References:
      X. Zu, K. Wei, "A simple gated recurrent network for detection of power quality disturbances", 2021.
    """

    hidden_size: int
    _: KW_ONLY
    forget_bias: float | Chrono = 0.0

    def __post_init__(self) -> None:
        check.positive(self, "hidden_size")
        check.gate_bias(self, "forget_bias")

    def init(self, key: Array, input_size: int) -> SGRNParams:
        n = self.hidden_size
        k_x, k_h, k_b = jax.random.split(key, 3)
        b, _ = gate_biases(k_b, self.forget_bias, n)
        return SGRNParams(glorot_uniform(k_x, (input_size, n)), orthogonal(k_h, (n, n)), b)

    def initial_state(self, params, batch_shape=(), dtype=None) -> SGRNState:
        return SGRNState(*zeros(params, batch_shape, dtype, self.hidden_size))

    def project(self, params: SGRNParams, x: Array, key: Keys = None) -> Array:
        return affine(x, params.w_x)

    def gates(self, params: SGRNParams, state: SGRNState, z: Array) -> SGRNGates:
        """Returns the gates of a step, given the state before it."""
        return SGRNGates(sigmoid(z + state.h @ params.w_h + align(params.b, z)))

    def step(self, params: SGRNParams, state: SGRNState, z: Array) -> SGRNState:
        (f,) = self.gates(params, state, z)
        return SGRNState(h=tanh((1 - f) * z + f * state.h))

    def readout(self, params: SGRNParams, state: SGRNState, z: Array) -> Array:
        return state.h
