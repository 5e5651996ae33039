"""Gated recurrent unit for parallel training (ParaGRU)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from jaxrnn import _check as check
from jaxrnn.initializers import gates, glorot_uniform
from jaxrnn.layer import Cell, Keys
from jaxrnn.ops import affine, align, sigmoid, tanh, zeros


class ParaGRUParams(NamedTuple):
    w_x: Array  # [input, 3 * hidden], in the order z, r, c
    w_h: Array  # [3, hidden], the diagonals of A
    b: Array  # [3 * hidden]


class ParaGRUState(NamedTuple):
    h: Array  # [*batch, hidden]


class ParaGRUGates(NamedTuple):
    z: Array  # [*batch, hidden], update gate
    r: Array  # reset gate
    c: Array  # candidate


@dataclass(frozen=True)
class ParaGRU(Cell):
    r"""Gated recurrent unit with diagonal recurrent matrices, made for parallel training (ParaGRU).

    Each unit sees only its own state, so the Jacobian of a step is diagonal. `ParaLSTM` is the LSTM of the same paper.

    .. math::
        z_t &= \sigma(a_z \odot h_{t-1} + B_z x_t + b_z) \\
        r_t &= \sigma(a_r \odot h_{t-1} + B_r x_t + b_r) \\
        c_t &= \tanh(a_c \odot (h_{t-1} \odot r_t) + B_c x_t + b_c) \\
        h_t &= (1 - z_t) \odot h_{t-1} + z_t \odot c_t

    The output is :math:`h_t`.

    Example:
      >>> cell = jaxrnn.ParaGRU(hidden_size=64)
      >>> params = cell.init(jax.random.key(0), input_size=8)
      >>> state, ys = jaxrnn.unroll(cell, params, jnp.zeros((20, 32, 8)))  # [time, batch, input]
      >>> ys.shape, params.w_h.shape  # only the diagonals
      ((20, 32, 64), (3, 64))

    Args:
      hidden_size: Size of :math:`h`.

    References:
      F. Danieli, P. Rodriguez, M. Sarabia, X. Suau, L. Zappella, "ParaRNN: unlocking parallel training of nonlinear
      RNNs for large language models", 2025. The initial diagonals have the distribution of its published code.

    Deviations:
      One matrix :math:`B` reads all inputs; the paper has a block for each head. The initial biases are zero.
    """

    hidden_size: int

    def __post_init__(self) -> None:
        check.positive(self, "hidden_size")

    def init(self, key: Array, input_size: int) -> ParaGRUParams:
        n = self.hidden_size
        k_x, k_h = jax.random.split(key)
        w_h = 2 / jnp.sqrt(5 * n) * jax.random.normal(k_h, (3, n))
        return ParaGRUParams(gates(glorot_uniform, k_x, (input_size, n), 3), w_h, jnp.zeros(3 * n))

    def initial_state(self, params, batch_shape=(), dtype=None) -> ParaGRUState:
        return ParaGRUState(*zeros(params, batch_shape, dtype, self.hidden_size))

    def project(self, params: ParaGRUParams, x: Array, key: Keys = None) -> Array:
        return affine(x, params.w_x, params.b)

    def gates(self, params: ParaGRUParams, state: ParaGRUState, z: Array) -> ParaGRUGates:
        """Returns the gates and the candidate of a step, given the state before it."""
        a_z, a_r, a_c = align(tuple(params.w_h), z)
        x_z, x_r, x_c = jnp.split(z, 3, axis=-1)
        update = sigmoid(a_z * state.h + x_z)
        r = sigmoid(a_r * state.h + x_r)
        return ParaGRUGates(update, r, tanh(a_c * (state.h * r) + x_c))

    def step(self, params: ParaGRUParams, state: ParaGRUState, z: Array) -> ParaGRUState:
        update, _, c = self.gates(params, state, z)
        return ParaGRUState(h=(1 - update) * state.h + update * c)

    def readout(self, params: ParaGRUParams, state: ParaGRUState, z: Array) -> Array:
        return state.h
