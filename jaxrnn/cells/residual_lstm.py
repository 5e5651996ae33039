"""Long short-term memory with a residual connection from its input."""

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


class ResidualLSTMParams(NamedTuple):
    w_x: Array  # [input, 5 * hidden], gates in the order i, f, g, o, then the shortcut
    w_h: Array  # [hidden, 4 * hidden]
    w_c: Array  # [3, hidden], the peepholes (diagonal matrices) of i, f, o
    w_p: Array  # [hidden, hidden], the projection
    b: Array  # [4 * hidden]


class ResidualLSTMState(NamedTuple):
    h: Array  # [*batch, hidden]
    c: Array  # [*batch, hidden]


class ResidualLSTMGates(NamedTuple):
    i: Array  # [*batch, hidden], input gate
    f: Array  # forget gate
    g: Array  # candidate
    o: Array  # output gate


@dataclass(frozen=True)
class ResidualLSTM(Cell):
    r"""Long short-term memory with peepholes, a projection, and a shortcut from the input inside the output gate.

    It is meant for deep stacks: the shortcut carries the output of one layer directly into the output of the next.
    `HighwayLSTM` mixes the two with a gate of their own.

    .. math::
        i_t &= \sigma(W_i x_t + R_i h_{t-1} + p_i \odot c_{t-1} + b_i) \\
        f_t &= \sigma(W_f x_t + R_f h_{t-1} + p_f \odot c_{t-1} + b_f) \\
        g_t &= \tanh(W_g x_t + R_g h_{t-1} + b_g) \\
        c_t &= f_t \odot c_{t-1} + i_t \odot g_t \\
        o_t &= \sigma(W_o x_t + R_o h_{t-1} + p_o \odot c_t + b_o) \\
        h_t &= o_t \odot (P \tanh(c_t) + W_s x_t)

    The output is :math:`h_t`.

    Example:
      >>> cell = jaxrnn.ResidualLSTM(hidden_size=64)
      >>> params = cell.init(jax.random.key(0), input_size=8)
      >>> state, ys = jaxrnn.unroll(cell, params, jnp.zeros((20, 32, 8)))  # [time, batch, input]
      >>> ys.shape
      (20, 32, 64)

    Args:
      hidden_size: Size of :math:`h` and :math:`c`.
      forget_bias: Initial value of :math:`b_f`: a number, or `Chrono(longest)`, which also sets :math:`b_i`.

    References:
      J. Kim, M. El-Khamy, J. Lee, "Residual LSTM: design of a deep recurrent architecture for distant speech
      recognition", 2017.

    Deviations:
      :math:`W_s` is always a matrix, where the paper has the identity between layers of equal size. The projection
      does not change the size.
    """

    hidden_size: int
    _: KW_ONLY
    forget_bias: float | Chrono = 1.0

    def __post_init__(self) -> None:
        check.positive(self, "hidden_size")
        check.gate_bias(self, "forget_bias")

    def init(self, key: Array, input_size: int) -> ResidualLSTMParams:
        n = self.hidden_size
        k_x, k_h, k_c, k_p, k_b = jax.random.split(key, 5)
        w_x = gates(glorot_uniform, k_x, (input_size, n), 5)
        w_h = gates(orthogonal, k_h, (n, n), 4)
        w_c = 0.1 * jax.random.normal(k_c, (3, n))
        w_p = orthogonal(k_p, (n, n))
        b_f, b_i = gate_biases(k_b, self.forget_bias, n)
        return ResidualLSTMParams(w_x, w_h, w_c, w_p, jnp.concatenate([b_i, b_f, jnp.zeros(2 * n)]))

    def initial_state(self, params, batch_shape=(), dtype=None) -> ResidualLSTMState:
        return ResidualLSTMState(*zeros(params, batch_shape, dtype, self.hidden_size, self.hidden_size))

    def project(self, params: ResidualLSTMParams, x: Array, key: Keys = None) -> tuple[Array, Array]:
        z = affine(x, params.w_x)
        n = self.hidden_size
        return z[..., : 4 * n] + align(params.b, z), z[..., 4 * n :]

    def gates(self, params: ResidualLSTMParams, state: ResidualLSTMState, z: tuple[Array, Array]) -> ResidualLSTMGates:
        """Returns the gates and the candidate of a step, given the state before it."""
        return self._gates_and_memory(params, state, z)[0]

    def step(self, params: ResidualLSTMParams, state: ResidualLSTMState, z: tuple[Array, Array]) -> ResidualLSTMState:
        _, shortcut = z
        (_, _, _, o), c = self._gates_and_memory(params, state, z)
        return ResidualLSTMState(h=o * (tanh(c) @ params.w_p + shortcut), c=c)

    def readout(self, params: ResidualLSTMParams, state: ResidualLSTMState, z: tuple[Array, Array]) -> Array:
        return state.h

    def _gates_and_memory(
        self, params: ResidualLSTMParams, state: ResidualLSTMState, z: tuple[Array, Array]
    ) -> tuple[ResidualLSTMGates, Array]:
        # The output gate reads the new memory.
        x_gates, _ = z
        p_i, p_f, p_o = align(tuple(params.w_c), x_gates)
        i, f, g, o = jnp.split(x_gates + state.h @ params.w_h, 4, axis=-1)
        i, f, g = sigmoid(i + p_i * state.c), sigmoid(f + p_f * state.c), tanh(g)
        c = f * state.c + i * g
        return ResidualLSTMGates(i, f, g, sigmoid(o + p_o * c)), c
