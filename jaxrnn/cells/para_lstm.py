"""Long short-term memory for parallel training (ParaLSTM)."""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from jaxrnn import _check as check
from jaxrnn.initializers import Chrono, gate_biases, gates, glorot_uniform
from jaxrnn.layer import Cell, Keys
from jaxrnn.ops import affine, align, sigmoid, tanh, zeros


class ParaLSTMParams(NamedTuple):
    w_x: Array  # [input, 3 * hidden], in the order f, z, o
    w_h: Array  # [3, hidden], the diagonals of A
    w_c: Array  # [2, hidden], the peepholes of f, o: the diagonals of C
    b: Array  # [3 * hidden]


class ParaLSTMState(NamedTuple):
    h: Array  # [*batch, hidden]
    c: Array  # [*batch, hidden]


class ParaLSTMGates(NamedTuple):
    f: Array  # [*batch, hidden], forget gate
    z: Array  # candidate
    o: Array  # output gate


@dataclass(frozen=True)
class ParaLSTM(Cell):
    r"""Coupled LSTM with peepholes and diagonal recurrent matrices, made for parallel training (ParaLSTM).

    Each unit sees only its own state, so the blocks of the Jacobian of a step are diagonal. The input gate is one minus
    the forget gate, as in `CoupledLSTM`. `ParaGRU` is the GRU of the same paper.

    .. math::
        f_t &= \sigma(a_f \odot h_{t-1} + B_f x_t + c_f \odot c_{t-1} + b_f) \\
        z_t &= \tanh(a_z \odot h_{t-1} + B_z x_t + b_z) \\
        c_t &= f_t \odot c_{t-1} + (1 - f_t) \odot z_t \\
        o_t &= \sigma(a_o \odot h_{t-1} + B_o x_t + c_o \odot c_t + b_o) \\
        h_t &= o_t \odot \tanh(c_t)

    The output is :math:`h_t`.

    Example:
      >>> cell = jaxrnn.ParaLSTM(hidden_size=64)
      >>> params = cell.init(jax.random.key(0), input_size=8)
      >>> state, ys = jaxrnn.unroll(cell, params, jnp.zeros((20, 32, 8)))  # [time, batch, input]
      >>> ys.shape, params.w_h.shape  # only the diagonals
      ((20, 32, 64), (3, 64))

    Args:
      hidden_size: Size of :math:`h` and :math:`c`.
      forget_bias: Initial value of :math:`b_f`: a number, or `Chrono(longest)`.

    References:
      F. Danieli, P. Rodriguez, M. Sarabia, X. Suau, L. Zappella, "ParaRNN: unlocking parallel training of nonlinear
      RNNs for large language models", 2025. The initial diagonals have the distribution of its published code.

    Deviations:
      One matrix :math:`B` reads all inputs; the paper has a block for each head. The forget bias starts at 1 by
      default.
    """

    hidden_size: int
    _: KW_ONLY
    forget_bias: float | Chrono = 1.0

    def __post_init__(self) -> None:
        check.positive(self, "hidden_size")
        check.gate_bias(self, "forget_bias")

    def init(self, key: Array, input_size: int) -> ParaLSTMParams:
        n = self.hidden_size
        k_x, k_h, k_c, k_b = jax.random.split(key, 4)
        deviation = 2 / jnp.sqrt(5 * n)
        w_h = deviation * jax.random.normal(k_h, (3, n))
        w_c = deviation * jax.random.normal(k_c, (2, n))
        b_f, _ = gate_biases(k_b, self.forget_bias, n)
        b = jnp.concatenate([b_f, jnp.zeros(2 * n)])
        return ParaLSTMParams(gates(glorot_uniform, k_x, (input_size, n), 3), w_h, w_c, b)

    def initial_state(self, params, batch_shape=(), dtype=None) -> ParaLSTMState:
        return ParaLSTMState(*zeros(params, batch_shape, dtype, self.hidden_size, self.hidden_size))

    def project(self, params: ParaLSTMParams, x: Array, key: Keys = None) -> Array:
        return affine(x, params.w_x, params.b)

    def gates(self, params: ParaLSTMParams, state: ParaLSTMState, z: Array) -> ParaLSTMGates:
        """Returns the gates and the candidate of a step, given the state before it."""
        return self._gates_and_memory(params, state, z)[0]

    def step(self, params: ParaLSTMParams, state: ParaLSTMState, z: Array) -> ParaLSTMState:
        (_, _, o), c = self._gates_and_memory(params, state, z)
        return ParaLSTMState(h=o * tanh(c), c=c)

    def readout(self, params: ParaLSTMParams, state: ParaLSTMState, z: Array) -> Array:
        return state.h

    def _gates_and_memory(self, params: ParaLSTMParams, state: ParaLSTMState, z: Array) -> tuple[ParaLSTMGates, Array]:
        # The output gate reads the new memory.
        a_f, a_z, a_o = align(tuple(params.w_h), z)
        c_f, c_o = align(tuple(params.w_c), z)
        x_f, x_z, x_o = jnp.split(z, 3, axis=-1)
        f = sigmoid(a_f * state.h + x_f + c_f * state.c)
        candidate = tanh(a_z * state.h + x_z)
        c = f * state.c + (1 - f) * candidate
        return ParaLSTMGates(f, candidate, sigmoid(a_o * state.h + x_o + c_o * c)), c
