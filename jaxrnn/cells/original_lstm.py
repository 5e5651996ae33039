"""Original long short-term memory, without a forget gate."""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from jaxrnn import _check as check
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


class OriginalLSTMGates(NamedTuple):
    i: Array  # [*batch, hidden], input gate
    g: Array  # candidate
    o: Array  # output gate


@dataclass(frozen=True)
class OriginalLSTM(Cell):
    r"""Long short-term memory in its original form of 1997, without a forget gate.

    The memory cell is the constant error carousel: it adds up what the input gate lets in. As a sum over all steps it
    has no bound, so the cell is suited to sequences that end. `LSTM` has a forget gate.

    .. math::
        i_t &= \sigma(W_i x_t + R_i h_{t-1} + b_i) \\
        g_t &= \tanh(W_g x_t + R_g h_{t-1} + b_g) \\
        o_t &= \sigma(W_o x_t + R_o h_{t-1} + b_o) \\
        c_t &= c_{t-1} + i_t \odot g_t \\
        h_t &= o_t \odot \tanh(c_t)

    The output is :math:`h_t`.

    Example:
      >>> cell = jaxrnn.OriginalLSTM(hidden_size=64, output_bias=-1.0)
      >>> params = cell.init(jax.random.key(0), input_size=8)
      >>> state, ys = jaxrnn.unroll(cell, params, jnp.zeros((20, 32, 8)))  # [time, batch, input]
      >>> ys.shape, state.c.shape
      ((20, 32, 64), (32, 64))

    Args:
      hidden_size: Size of :math:`h` and :math:`c`.
      input_bias: Initial value of :math:`b_i`.
      output_bias: Initial value of :math:`b_o`. The paper starts below zero, so that memory cells open one after
        another.

    References:
      S. Hochreiter, J. Schmidhuber, "Long short-term memory", 1997.

    Deviations:
      Both squashing functions are tanh; the paper's are sigmoids scaled to [-2, 2] and [-1, 1]. Each memory cell has
      its own gates (blocks of one cell). The gradient is complete; the paper truncates it at the gates.
    """

    hidden_size: int
    _: KW_ONLY
    input_bias: float = 0.0
    output_bias: float = 0.0

    def __post_init__(self) -> None:
        check.positive(self, "hidden_size")
        check.finite(self, "input_bias", "output_bias")

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

    def gates(self, params: OriginalLSTMParams, state: OriginalLSTMState, z: Array) -> OriginalLSTMGates:
        """Returns the gates and the candidate of a step, given the state before it."""
        i, g, o = jnp.split(z + state.h @ params.w_h, 3, axis=-1)
        return OriginalLSTMGates(sigmoid(i), tanh(g), sigmoid(o))

    def step(self, params: OriginalLSTMParams, state: OriginalLSTMState, z: Array) -> OriginalLSTMState:
        i, g, o = self.gates(params, state, z)
        c = state.c + i * g
        return OriginalLSTMState(h=o * tanh(c), c=c)

    def readout(self, params: OriginalLSTMParams, state: OriginalLSTMState, z: Array) -> Array:
        return state.h
