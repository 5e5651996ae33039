"""Long short-term memory with a multiplicative state."""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from jaxrnn import _check as check
from jaxrnn.initializers import Chrono, gate_biases, gates, glorot_uniform, orthogonal
from jaxrnn.layer import Cell, Keys
from jaxrnn.ops import affine, align, sigmoid, tanh, zeros


class MultiplicativeLSTMParams(NamedTuple):
    w_x: Array  # [input, 5 * hidden], in the order m, i, f, g, o
    w_h: Array  # [hidden, hidden], for m
    w_m: Array  # [hidden, 4 * hidden], gates in the order i, f, g, o
    b: Array  # [4 * hidden]


class MultiplicativeLSTMState(NamedTuple):
    h: Array  # [*batch, hidden]
    c: Array  # [*batch, hidden]


class MultiplicativeLSTMGates(NamedTuple):
    i: Array  # [*batch, hidden], input gate
    f: Array  # forget gate
    g: Array  # candidate
    o: Array  # output gate


@dataclass(frozen=True)
class MultiplicativeLSTM(Cell):
    r"""Long short-term memory whose recurrent matrix depends on the input.

    The gates read a product :math:`m_t` of input and state in place of the state. As in the paper, the candidate is not
    squashed and the output gate is inside the tanh. Many implementations use the equations of the usual LSTM there, as
    `Multiplicative(LSTM(n))` does.

    .. math::
        m_t &= (W_m x_t) \odot (R_m h_{t-1}) \\
        i_t &= \sigma(W_i x_t + M_i m_t + b_i) \\
        f_t &= \sigma(W_f x_t + M_f m_t + b_f) \\
        g_t &= W_g x_t + M_g m_t + b_g \\
        o_t &= \sigma(W_o x_t + M_o m_t + b_o) \\
        c_t &= f_t \odot c_{t-1} + i_t \odot g_t \\
        h_t &= \tanh(o_t \odot c_t)

    The output is :math:`h_t`.

    Example:
      >>> cell = jaxrnn.MultiplicativeLSTM(hidden_size=64)
      >>> params = cell.init(jax.random.key(0), input_size=8)
      >>> state, ys = jaxrnn.unroll(cell, params, jnp.zeros((20, 32, 8)))  # [time, batch, input]
      >>> ys.shape, state.c.shape
      ((20, 32, 64), (32, 64))

    Args:
      hidden_size: Size of :math:`h`, :math:`c` and :math:`m`.
      forget_bias: Initial value of :math:`b_f`: a number, or `Chrono(longest)`, which also sets :math:`b_i`.

    References:
      B. Krause, L. Lu, I. Murray, S. Renals, "Multiplicative LSTM for sequence modelling", 2016.

    Deviations:
      The gates have biases. There is no weight normalization.
    """

    hidden_size: int
    _: KW_ONLY
    forget_bias: float | Chrono = 1.0

    def __post_init__(self) -> None:
        check.positive(self, "hidden_size")
        check.gate_bias(self, "forget_bias")

    def init(self, key: Array, input_size: int) -> MultiplicativeLSTMParams:
        n = self.hidden_size
        k_x, k_h, k_m, k_b = jax.random.split(key, 4)
        w_x = gates(glorot_uniform, k_x, (input_size, n), 5)
        w_h = orthogonal(k_h, (n, n))
        w_m = gates(orthogonal, k_m, (n, n), 4)
        b_f, b_i = gate_biases(k_b, self.forget_bias, n)
        return MultiplicativeLSTMParams(w_x, w_h, w_m, jnp.concatenate([b_i, b_f, jnp.zeros(2 * n)]))

    def initial_state(self, params, batch_shape=(), dtype=None) -> MultiplicativeLSTMState:
        return MultiplicativeLSTMState(*zeros(params, batch_shape, dtype, self.hidden_size, self.hidden_size))

    def project(self, params: MultiplicativeLSTMParams, x: Array, key: Keys = None) -> tuple[Array, Array]:
        n = self.hidden_size
        z = affine(x, params.w_x)
        return z[..., :n], z[..., n:] + align(params.b, z)

    def gates(
        self, params: MultiplicativeLSTMParams, state: MultiplicativeLSTMState, z: tuple[Array, Array]
    ) -> MultiplicativeLSTMGates:
        """Returns the gates and the candidate of a step, given the state before it."""
        x_m, x_gates = z
        m = x_m * (state.h @ params.w_h)
        i, f, g, o = jnp.split(x_gates + m @ params.w_m, 4, axis=-1)
        return MultiplicativeLSTMGates(sigmoid(i), sigmoid(f), g, sigmoid(o))

    def step(
        self, params: MultiplicativeLSTMParams, state: MultiplicativeLSTMState, z: tuple[Array, Array]
    ) -> MultiplicativeLSTMState:
        i, f, g, o = self.gates(params, state, z)
        c = f * state.c + i * g
        return MultiplicativeLSTMState(h=tanh(o * c), c=c)

    def readout(self, params: MultiplicativeLSTMParams, state: MultiplicativeLSTMState, z: Any) -> Array:
        return state.h
