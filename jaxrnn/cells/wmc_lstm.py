"""Long short-term memory with working memory connections."""

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


class WMCLSTMParams(NamedTuple):
    w_x: Array  # [input, 4 * hidden], gates in the order i, f, g, o
    w_h: Array  # [hidden, 4 * hidden]
    w_c: Array  # [hidden, 2 * hidden], from the old memory, gates in the order i, f
    w_o: Array  # [hidden, hidden], from the new memory, gate o
    b: Array  # [4 * hidden]


class WMCLSTMState(NamedTuple):
    h: Array  # [*batch, hidden]
    c: Array  # [*batch, hidden]


class WMCLSTMGates(NamedTuple):
    i: Array  # [*batch, hidden], input gate
    f: Array  # forget gate
    g: Array  # candidate
    o: Array  # output gate


@dataclass(frozen=True)
class WMCLSTM(Cell):
    r"""Long short-term memory with working memory connections: the gates read the whole memory through a tanh.

    The gates of `PeepholeLSTM` read only their own entry of the memory, without a bound on its influence.

    .. math::
        i_t &= \sigma(W_i x_t + R_i h_{t-1} + \tanh(V_i c_{t-1}) + b_i) \\
        f_t &= \sigma(W_f x_t + R_f h_{t-1} + \tanh(V_f c_{t-1}) + b_f) \\
        g_t &= \tanh(W_g x_t + R_g h_{t-1} + b_g) \\
        c_t &= f_t \odot c_{t-1} + i_t \odot g_t \\
        o_t &= \sigma(W_o x_t + R_o h_{t-1} + \tanh(V_o c_t) + b_o) \\
        h_t &= o_t \odot \tanh(c_t)

    The output is :math:`h_t`.

    Example:
      >>> cell = jaxrnn.WMCLSTM(hidden_size=64)
      >>> params = cell.init(jax.random.key(0), input_size=8)
      >>> state, ys = jaxrnn.unroll(cell, params, jnp.zeros((20, 32, 8)))  # [time, batch, input]
      >>> ys.shape, state.c.shape
      ((20, 32, 64), (32, 64))

    Args:
      hidden_size: Size of :math:`h` and :math:`c`.
      forget_bias: Initial value of :math:`b_f`: a number, or `Chrono(longest)`, which also sets :math:`b_i`.

    References:
      F. Landi, L. Baraldi, M. Cornia, R. Cucchiara, "Working memory connections for LSTM", 2021.
    """

    hidden_size: int
    _: KW_ONLY
    forget_bias: float | Chrono = 1.0

    def __post_init__(self) -> None:
        check.positive(self, "hidden_size")
        check.gate_bias(self, "forget_bias")

    def init(self, key: Array, input_size: int) -> WMCLSTMParams:
        n = self.hidden_size
        k_x, k_h, k_c, k_o, k_b = jax.random.split(key, 5)
        w_x = gates(glorot_uniform, k_x, (input_size, n), 4)
        w_h = gates(orthogonal, k_h, (n, n), 4)
        w_c = gates(orthogonal, k_c, (n, n), 2)
        w_o = orthogonal(k_o, (n, n))
        b_f, b_i = gate_biases(k_b, self.forget_bias, n)
        return WMCLSTMParams(w_x, w_h, w_c, w_o, jnp.concatenate([b_i, b_f, jnp.zeros(2 * n)]))

    def initial_state(self, params, batch_shape=(), dtype=None) -> WMCLSTMState:
        return WMCLSTMState(*zeros(params, batch_shape, dtype, self.hidden_size, self.hidden_size))

    def project(self, params: WMCLSTMParams, x: Array, key: Keys = None) -> Array:
        return affine(x, params.w_x, params.b)

    def gates(self, params: WMCLSTMParams, state: WMCLSTMState, z: Array) -> WMCLSTMGates:
        """Returns the gates and the candidate of a step, given the state before it."""
        return self._gates_and_memory(params, state, z)[0]

    def step(self, params: WMCLSTMParams, state: WMCLSTMState, z: Array) -> WMCLSTMState:
        (_, _, _, o), c = self._gates_and_memory(params, state, z)
        return WMCLSTMState(h=o * tanh(c), c=c)

    def readout(self, params: WMCLSTMParams, state: WMCLSTMState, z: Array) -> Array:
        return state.h

    def _gates_and_memory(self, params: WMCLSTMParams, state: WMCLSTMState, z: Array) -> tuple[WMCLSTMGates, Array]:
        # The output gate reads the new memory.
        i, f, g, o = jnp.split(z + state.h @ params.w_h, 4, axis=-1)
        c_i, c_f = jnp.split(tanh(state.c @ params.w_c), 2, axis=-1)
        i, f, g = sigmoid(i + c_i), sigmoid(f + c_f), tanh(g)
        c = f * state.c + i * g
        return WMCLSTMGates(i, f, g, sigmoid(o + tanh(c @ params.w_o))), c
