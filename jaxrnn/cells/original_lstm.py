"""Long short-term memory as it began, without a forget gate."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from jaxrnn.initializers import gates, glorot_uniform, orthogonal
from jaxrnn.layer import Cell, Keys
from jaxrnn.ops import affine, sigmoid, tanh, zeros


class OriginalLSTMParams(NamedTuple):
    w_x: Array  # [input, 3 * hidden], gates in the order i, g, o
    w_h: Array  # [hidden, 3 * hidden]
    b: Array  # [3 * hidden]


class OriginalLSTMState(NamedTuple):
    h: Array  # [*batch, hidden]
    c: Array  # [*batch, hidden]


@dataclass(frozen=True)
class OriginalLSTM(Cell):
    r"""Long short-term memory that never forgets: the constant error carousel.

    .. math::
        i_t &= \sigma(W_i x_t + R_i h_{t-1} + b_i) \\
        g_t &= \tanh(W_g x_t + R_g h_{t-1} + b_g) \\
        o_t &= \sigma(W_o x_t + R_o h_{t-1} + b_o) \\
        c_t &= c_{t-1} + i_t \odot g_t \\
        h_t &= o_t \odot \tanh(c_t)

    The output is :math:`h_t`. The memory is a sum over all steps and has no bound: for sequences with an end.

    Args:
      hidden_size: size of :math:`h` and :math:`c`.
      input_bias: initial value of :math:`b_i`.
      output_bias: initial value of :math:`b_o`; the paper begins below zero, so that memories open one by one.

    References: S. Hochreiter, J. Schmidhuber, "Long short-term memory", 1997. Deviations: tanh for both
    squashing functions (the paper's are sigmoids scaled to [-2, 2] and [-1, 1]), each memory cell with
    gates of its own (blocks of one cell), and the full gradient, where the paper cuts it at the gates.
    """

    hidden_size: int
    input_bias: float = 0.0
    output_bias: float = 0.0

    def init(self, key: Array, input_size: int) -> OriginalLSTMParams:
        n = self.hidden_size
        k_x, k_h = jax.random.split(key)
        w_x = gates(glorot_uniform, k_x, (input_size, n), 3)
        w_h = gates(orthogonal, k_h, (n, n), 3)
        b = [jnp.full(n, float(self.input_bias)), jnp.zeros(n), jnp.full(n, float(self.output_bias))]
        return OriginalLSTMParams(w_x, w_h, jnp.concatenate(b))

    def initial_state(self, params, batch_shape=(), dtype=None) -> OriginalLSTMState:
        return OriginalLSTMState(*zeros(params, batch_shape, dtype, self.hidden_size, self.hidden_size))

    def project(self, params: OriginalLSTMParams, x: Array, key: Keys = None) -> Array:
        return affine(x, params.w_x, params.b)

    def step(self, params: OriginalLSTMParams, state: OriginalLSTMState, z: Array) -> OriginalLSTMState:
        i, g, o = jnp.split(z + state.h @ params.w_h, 3, axis=-1)
        c = state.c + sigmoid(i) * tanh(g)
        return OriginalLSTMState(h=sigmoid(o) * tanh(c), c=c)

    def readout(self, params: OriginalLSTMParams, state: OriginalLSTMState, z: Array) -> Array:
        return state.h
