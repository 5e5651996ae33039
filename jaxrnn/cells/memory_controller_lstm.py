"""Long short-term memory with a separate controller of its memory."""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from jaxrnn import _check as check
from jaxrnn.initializers import Chrono, gate_biases, gates, glorot_uniform, orthogonal
from jaxrnn.layer import Cell, Keys
from jaxrnn.ops import affine, sigmoid, tanh, zeros


class MemoryControllerLSTMParams(NamedTuple):
    w_x: Array  # [input, 5 * hidden], gates in the order i, f, n, o, m
    w_v: Array  # [hidden, 5 * hidden]
    b: Array  # [5 * hidden]


class MemoryControllerLSTMState(NamedTuple):
    h: Array  # [*batch, hidden], the output, which no later step reads
    v: Array  # [*batch, hidden], the controller
    c: Array  # [*batch, hidden]


class MemoryControllerLSTMGates(NamedTuple):
    i: Array  # [*batch, hidden], input gate
    f: Array  # forget gate
    n: Array  # candidate
    o: Array  # output gate
    m: Array  # output gate of the controller


@dataclass(frozen=True)
class MemoryControllerLSTM(Cell):
    r"""Long short-term memory with two readouts of its memory: one is the output, the other controls the gates.

    In `LSTM`, the output :math:`h` also controls the gates of the next step. Here :math:`v` does, with an output gate
    :math:`m` of its own.

    .. math::
        i_t &= \sigma(W_i x_t + R_i v_{t-1} + b_i) \\
        f_t &= \sigma(W_f x_t + R_f v_{t-1} + b_f) \\
        n_t &= \tanh(W_n x_t + R_n v_{t-1} + b_n) \\
        o_t &= \sigma(W_o x_t + R_o v_{t-1} + b_o) \\
        m_t &= \sigma(W_m x_t + R_m v_{t-1} + b_m) \\
        c_t &= f_t \odot c_{t-1} + i_t \odot n_t \\
        h_t &= o_t \odot \tanh(c_t) \\
        v_t &= m_t \odot \tanh(c_t)

    The output is :math:`h_t`.

    Example:
      >>> cell = jaxrnn.MemoryControllerLSTM(hidden_size=64)
      >>> params = cell.init(jax.random.key(0), input_size=8)
      >>> state, ys = jaxrnn.unroll(cell, params, jnp.zeros((20, 4, 8)))  # [time, batch, input]
      >>> ys.shape, state.v.shape
      ((20, 4, 64), (4, 64))

    Args:
      hidden_size: Size of :math:`h`, :math:`v` and :math:`c`.
      forget_bias: Initial value of :math:`b_f`: a number, or `Chrono(longest)`, which also sets :math:`b_i`.

    References:
      I. Ben-Ari, R. Shwartz-Ziv, "Sequence modeling using a memory controller extension for LSTM", 2017 (MC-LSTM; not
      the mass-conserving LSTM, which has the same abbreviation).
    """

    hidden_size: int
    _: KW_ONLY
    forget_bias: float | Chrono = 1.0

    def __post_init__(self) -> None:
        check.positive(self, "hidden_size")
        check.gate_bias(self, "forget_bias")

    def init(self, key: Array, input_size: int) -> MemoryControllerLSTMParams:
        n = self.hidden_size
        k_x, k_v, k_b = jax.random.split(key, 3)
        w_x = gates(glorot_uniform, k_x, (input_size, n), 5)
        w_v = gates(orthogonal, k_v, (n, n), 5)
        b_f, b_i = gate_biases(k_b, self.forget_bias, n)
        return MemoryControllerLSTMParams(w_x, w_v, jnp.concatenate([b_i, b_f, jnp.zeros(3 * n)]))

    def initial_state(self, params, batch_shape=(), dtype=None) -> MemoryControllerLSTMState:
        return MemoryControllerLSTMState(*zeros(params, batch_shape, dtype, *[self.hidden_size] * 3))

    def project(self, params: MemoryControllerLSTMParams, x: Array, key: Keys = None) -> Array:
        return affine(x, params.w_x, params.b)

    def gates(
        self, params: MemoryControllerLSTMParams, state: MemoryControllerLSTMState, z: Array
    ) -> MemoryControllerLSTMGates:
        """Returns the gates and the candidate of a step, given the state before it."""
        i, f, n, o, m = jnp.split(z + state.v @ params.w_v, 5, axis=-1)
        return MemoryControllerLSTMGates(sigmoid(i), sigmoid(f), tanh(n), sigmoid(o), sigmoid(m))

    def step(
        self, params: MemoryControllerLSTMParams, state: MemoryControllerLSTMState, z: Array
    ) -> MemoryControllerLSTMState:
        i, f, n, o, m = self.gates(params, state, z)
        c = f * state.c + i * n
        return MemoryControllerLSTMState(h=o * tanh(c), v=m * tanh(c), c=c)

    def readout(self, params: MemoryControllerLSTMParams, state: MemoryControllerLSTMState, z: Array) -> Array:
        return state.h
