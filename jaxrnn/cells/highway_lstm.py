"""Long short-term memory with a highway from its input to its output."""

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


class HighwayLSTMParams(NamedTuple):
    w_x: Array  # [input, 6 * hidden], gates in the order i, f, g, o, r, then the highway
    w_h: Array  # [hidden, 5 * hidden]
    b: Array  # [5 * hidden]


class HighwayLSTMState(NamedTuple):
    h: Array  # [*batch, hidden]
    c: Array  # [*batch, hidden]


class HighwayLSTMGates(NamedTuple):
    i: Array  # [*batch, hidden], input gate
    f: Array  # forget gate
    g: Array  # candidate
    o: Array  # output gate
    r: Array  # gate of the highway


@dataclass(frozen=True)
class HighwayLSTM(Cell):
    r"""Long short-term memory with a highway: a gate mixes the output with a linear map of the input.

    The highway carries the input past the memory, so that many layers can be stacked.

    .. math::
        i_t &= \sigma(W_i x_t + R_i h_{t-1} + b_i) \\
        f_t &= \sigma(W_f x_t + R_f h_{t-1} + b_f) \\
        g_t &= \tanh(W_g x_t + R_g h_{t-1} + b_g) \\
        o_t &= \sigma(W_o x_t + R_o h_{t-1} + b_o) \\
        r_t &= \sigma(W_r x_t + R_r h_{t-1} + b_r) \\
        c_t &= f_t \odot c_{t-1} + i_t \odot g_t \\
        h_t &= r_t \odot o_t \odot \tanh(c_t) + (1 - r_t) \odot W_h x_t

    The output is :math:`h_t`.

    Example:
      >>> cell = jaxrnn.Stack(*[jaxrnn.HighwayLSTM(hidden_size=32) for _ in range(3)])
      >>> params = cell.init(jax.random.key(0), input_size=8)
      >>> state, ys = jaxrnn.unroll(cell, params, jnp.zeros((20, 4, 8)))  # [time, batch, input]
      >>> ys.shape
      (20, 4, 32)

    Args:
      hidden_size: Size of :math:`h` and :math:`c`.
      forget_bias: Initial value of :math:`b_f`: a number, or `Chrono(longest)`, which also sets :math:`b_i`.
      highway_bias: Initial value of :math:`-b_r`. Above zero, more of the input passes.

    References:
      L. He, K. Lee, M. Lewis, L. Zettlemoyer, "Deep semantic role labeling: what works and what's next", 2017. This is
      not the highway LSTM of Y. Zhang et al., 2016, which connects the memories of two layers.
    """

    hidden_size: int
    _: KW_ONLY
    forget_bias: float | Chrono = 1.0
    highway_bias: float = 0.0

    def __post_init__(self) -> None:
        check.positive(self, "hidden_size")
        check.gate_bias(self, "forget_bias")
        check.finite(self, "highway_bias")

    def init(self, key: Array, input_size: int) -> HighwayLSTMParams:
        n = self.hidden_size
        k_x, k_h, k_b = jax.random.split(key, 3)
        w_x = gates(glorot_uniform, k_x, (input_size, n), 6)
        w_h = gates(orthogonal, k_h, (n, n), 5)
        b_f, b_i = gate_biases(k_b, self.forget_bias, n)
        b_r = jnp.full(n, -float(self.highway_bias))
        return HighwayLSTMParams(w_x, w_h, jnp.concatenate([b_i, b_f, jnp.zeros(2 * n), b_r]))

    def initial_state(self, params, batch_shape=(), dtype=None) -> HighwayLSTMState:
        return HighwayLSTMState(*zeros(params, batch_shape, dtype, self.hidden_size, self.hidden_size))

    def project(self, params: HighwayLSTMParams, x: Array, key: Keys = None) -> tuple[Array, Array]:
        n = self.hidden_size
        z = affine(x, params.w_x)
        return z[..., : 5 * n] + align(params.b, z), z[..., 5 * n :]

    def gates(self, params: HighwayLSTMParams, state: HighwayLSTMState, z: tuple[Array, Array]) -> HighwayLSTMGates:
        """Returns the gates and the candidate of a step, given the state before it."""
        x_gates, _ = z
        i, f, g, o, r = jnp.split(x_gates + state.h @ params.w_h, 5, axis=-1)
        return HighwayLSTMGates(sigmoid(i), sigmoid(f), tanh(g), sigmoid(o), sigmoid(r))

    def step(self, params: HighwayLSTMParams, state: HighwayLSTMState, z: tuple[Array, Array]) -> HighwayLSTMState:
        _, highway = z
        i, f, g, o, r = self.gates(params, state, z)
        c = f * state.c + i * g
        return HighwayLSTMState(h=r * o * tanh(c) + (1 - r) * highway, c=c)

    def readout(self, params: HighwayLSTMParams, state: HighwayLSTMState, z: tuple[Array, Array]) -> Array:
        return state.h
