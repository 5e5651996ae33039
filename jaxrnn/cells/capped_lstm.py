"""Long short-term memory with a capped input gate."""

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


class CappedLSTMParams(NamedTuple):
    w_x: Array  # [input, 4 * hidden], gates in the order i, f, g, o
    w_h: Array  # [hidden, 4 * hidden]
    b: Array  # [4 * hidden]


class CappedLSTMState(NamedTuple):
    h: Array  # [*batch, hidden]
    c: Array  # [*batch, hidden]


class CappedLSTMGates(NamedTuple):
    i: Array  # [*batch, hidden], input gate
    f: Array  # forget gate
    g: Array  # candidate
    o: Array  # output gate


@dataclass(frozen=True)
class CappedLSTM(Cell):
    r"""Long short-term memory that writes at most as much as it forgets, so that :math:`|c_t|` stays below 1.

    The input gate is capped at :math:`1 - f_t`. Where the cap is active, the input gate has no gradient. `CoupledLSTM`
    has a single gate instead.

    .. math::
        i_t &= \sigma(W_i x_t + R_i h_{t-1} + b_i) \\
        f_t &= \sigma(W_f x_t + R_f h_{t-1} + b_f) \\
        g_t &= \tanh(W_g x_t + R_g h_{t-1} + b_g) \\
        o_t &= \sigma(W_o x_t + R_o h_{t-1} + b_o) \\
        c_t &= f_t \odot c_{t-1} + \min(i_t, 1 - f_t) \odot g_t \\
        h_t &= o_t \odot \tanh(c_t)

    The output is :math:`h_t`.

    Example:
      >>> cell = jaxrnn.CappedLSTM(hidden_size=32)
      >>> params = cell.init(jax.random.key(0), input_size=8)
      >>> state, ys = jaxrnn.unroll(cell, params, jnp.ones((1000, 4, 8)))  # [time, batch, input]
      >>> bool(jnp.abs(state.c).max() < 1)  # in an LSTM, it could grow with every step
      True

    Args:
      hidden_size: Size of :math:`h` and :math:`c`.
      forget_bias: Initial value of :math:`b_f`: a number, or `Chrono(longest)`, which also sets :math:`b_i`.

    References:
      G. Melis, C. Dyer, P. Blunsom, "On the state of the art of evaluation in neural language models", 2018.

    Deviations:
      The paper's down-projection of the output is left out.
    """

    hidden_size: int
    _: KW_ONLY
    forget_bias: float | Chrono = 1.0

    def __post_init__(self) -> None:
        check.positive(self, "hidden_size")
        check.gate_bias(self, "forget_bias")

    def init(self, key: Array, input_size: int) -> CappedLSTMParams:
        n = self.hidden_size
        k_x, k_h, k_b = jax.random.split(key, 3)
        w_x = gates(glorot_uniform, k_x, (input_size, n), 4)
        w_h = gates(orthogonal, k_h, (n, n), 4)
        b_f, b_i = gate_biases(k_b, self.forget_bias, n)
        return CappedLSTMParams(w_x, w_h, jnp.concatenate([b_i, b_f, jnp.zeros(2 * n)]))

    def initial_state(self, params, batch_shape=(), dtype=None) -> CappedLSTMState:
        return CappedLSTMState(*zeros(params, batch_shape, dtype, self.hidden_size, self.hidden_size))

    def project(self, params: CappedLSTMParams, x: Array, key: Keys = None) -> Array:
        return affine(x, params.w_x, params.b)

    def gates(self, params: CappedLSTMParams, state: CappedLSTMState, z: Array) -> CappedLSTMGates:
        """Returns the gates and the candidate of a step, given the state before it."""
        i, f, g, o = jnp.split(z + state.h @ params.w_h, 4, axis=-1)
        return CappedLSTMGates(sigmoid(i), sigmoid(f), tanh(g), sigmoid(o))

    def step(self, params: CappedLSTMParams, state: CappedLSTMState, z: Array) -> CappedLSTMState:
        i, f, g, o = self.gates(params, state, z)
        c = f * state.c + jnp.minimum(i, 1 - f) * g
        return CappedLSTMState(h=o * tanh(c), c=c)

    def readout(self, params: CappedLSTMParams, state: CappedLSTMState, z: Array) -> Array:
        return state.h
