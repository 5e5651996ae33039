"""Long short-term memory with peepholes."""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from jaxrnn import _check as check
from jaxrnn.initializers import Chrono, gate_biases, gates, glorot_uniform, orthogonal
from jaxrnn.layer import Cell, Keys
from jaxrnn.ops import affine, align, sigmoid, tanh, zeros


class PeepholeLSTMParams(NamedTuple):
    w_x: Array  # [input, 4 * hidden], gates in the order i, f, g, o
    w_h: Array  # [hidden, 4 * hidden]
    w_c: Array  # [3, hidden], the peepholes of i, f, o
    b: Array  # [4 * hidden]


class PeepholeLSTMState(NamedTuple):
    h: Array  # [*batch, hidden]
    c: Array  # [*batch, hidden]


class PeepholeLSTMGates(NamedTuple):
    i: Array  # [*batch, hidden], input gate
    f: Array  # forget gate
    g: Array  # candidate
    o: Array  # output gate


@dataclass(frozen=True)
class PeepholeLSTM(Cell):
    r"""Long short-term memory with peepholes: each unit's gates also see its own memory cell.

    The paper added peepholes for tasks that need precise timing. `LSTM` has none.

    .. math::
        i_t &= \sigma(W_i x_t + R_i h_{t-1} + p_i \odot c_{t-1} + b_i) \\
        f_t &= \sigma(W_f x_t + R_f h_{t-1} + p_f \odot c_{t-1} + b_f) \\
        g_t &= \tanh(W_g x_t + R_g h_{t-1} + b_g) \\
        c_t &= f_t \odot c_{t-1} + i_t \odot g_t \\
        o_t &= \sigma(W_o x_t + R_o h_{t-1} + p_o \odot c_t + b_o) \\
        h_t &= o_t \odot \tanh(c_t)

    The output is :math:`h_t`.

    Example:
      >>> cell = jaxrnn.PeepholeLSTM(hidden_size=64)
      >>> params = cell.init(jax.random.key(0), input_size=8)
      >>> state, ys = jaxrnn.unroll(cell, params, jnp.zeros((20, 32, 8)))  # [time, batch, input]
      >>> ys.shape, state.c.shape
      ((20, 32, 64), (32, 64))

    Args:
      hidden_size: Size of :math:`h` and :math:`c`.
      forget_bias: Initial value of :math:`b_f`: a number, or `Chrono(longest)`, which also sets :math:`b_i`.

    References:
      F. Gers, N. Schraudolph, J. Schmidhuber, "Learning precise timing with LSTM recurrent networks", 2002; A. Graves,
      "Generating sequences with recurrent neural networks", 2013, for tanh and the full gradient.

    Deviations:
      The input and output squashing functions are tanh; the paper's are scaled sigmoids and the identity. The gradient
      is complete. Both are as in Graves, 2013.
    """

    hidden_size: int
    _: KW_ONLY
    forget_bias: float | Chrono = 1.0

    def __post_init__(self) -> None:
        check.positive(self, "hidden_size")
        check.gate_bias(self, "forget_bias")

    def init(self, key: Array, input_size: int) -> PeepholeLSTMParams:
        n = self.hidden_size
        k_x, k_h, k_c, k_b = jax.random.split(key, 4)
        w_x = gates(glorot_uniform, k_x, (input_size, n), 4)
        w_h = gates(orthogonal, k_h, (n, n), 4)
        w_c = 0.1 * jax.random.normal(k_c, (3, n))
        b_f, b_i = gate_biases(k_b, self.forget_bias, n)
        return PeepholeLSTMParams(w_x, w_h, w_c, jnp.concatenate([b_i, b_f, jnp.zeros(2 * n)]))

    def initial_state(self, params, batch_shape=(), dtype=None) -> PeepholeLSTMState:
        return PeepholeLSTMState(*zeros(params, batch_shape, dtype, self.hidden_size, self.hidden_size))

    def project(self, params: PeepholeLSTMParams, x: Array, key: Keys = None) -> Array:
        return affine(x, params.w_x, params.b)

    def gates(self, params: PeepholeLSTMParams, state: PeepholeLSTMState, z: Array) -> PeepholeLSTMGates:
        """Returns the gates and the candidate of a step, given the state before it."""
        return self._gates_and_memory(params, state, z)[0]

    def step(self, params: PeepholeLSTMParams, state: PeepholeLSTMState, z: Array) -> PeepholeLSTMState:
        (_, _, _, o), c = self._gates_and_memory(params, state, z)
        return PeepholeLSTMState(h=o * tanh(c), c=c)

    def readout(self, params: PeepholeLSTMParams, state: PeepholeLSTMState, z: Array) -> Array:
        return state.h

    def _gates_and_memory(
        self, params: PeepholeLSTMParams, state: PeepholeLSTMState, z: Array
    ) -> tuple[PeepholeLSTMGates, Array]:
        # The output gate reads the new memory.
        p_i, p_f, p_o = align(tuple(params.w_c), z)
        i, f, g, o = jnp.split(z + state.h @ params.w_h, 4, axis=-1)
        i, f, g = sigmoid(i + p_i * state.c), sigmoid(f + p_f * state.c), tanh(g)
        c = f * state.c + i * g
        return PeepholeLSTMGates(i, f, g, sigmoid(o + p_o * c)), c
