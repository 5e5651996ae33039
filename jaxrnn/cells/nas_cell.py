"""Cell found by neural architecture search."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array
from jax.nn import relu

from jaxrnn import _check as check
from jaxrnn.initializers import gates, glorot_uniform, orthogonal
from jaxrnn.layer import Cell, Keys
from jaxrnn.ops import affine, sigmoid, tanh, zeros


class NASCellParams(NamedTuple):
    w_x: Array  # [input, 8 * hidden], in the order of k, 0 to 7
    w_h: Array  # [hidden, 8 * hidden]
    b: Array  # [8 * hidden]


class NASCellState(NamedTuple):
    h: Array  # [*batch, hidden]
    c: Array  # [*batch, hidden]


@dataclass(frozen=True)
class NASCell(Cell):
    r"""Cell found by neural architecture search, a search over trees of operations, for language models.

    Like an LSTM it carries a memory cell :math:`c` beside the output :math:`h`, but it combines eight pairs of products
    with the input and the state.

    .. math::
        p^k &= W_k x_t, \quad q^k = R_k h_{t-1} + b_k, \quad a^k = p^k + q^k, \quad k = 0, \dots, 7 \\
        u_t &= \tanh(\tanh(\sigma(a^0) \odot \mathrm{relu}(a^1)) + c_{t-1}) \\
        c_t &= u_t \odot \tanh(\sigma(a^2) + \mathrm{relu}(p^3 \odot q^3)) \\
        v_t &= \tanh(\tanh(\tanh(a^4) \odot \sigma(a^5)) + \sigma(\tanh(a^6) + \sigma(a^7))) \\
        h_t &= \tanh(c_t \odot v_t)

    The output is :math:`h_t`.

    Example:
      >>> cell = jaxrnn.NASCell(hidden_size=64)
      >>> params = cell.init(jax.random.key(0), input_size=8)
      >>> state, ys = jaxrnn.unroll(cell, params, jnp.zeros((20, 32, 8)))  # [time, batch, input]
      >>> ys.shape, state.c.shape
      ((20, 32, 64), (32, 64))

    Args:
      hidden_size: Size of :math:`h` and :math:`c`.

    References:
      B. Zoph, Q. Le, "Neural architecture search with reinforcement learning", 2017, figure 8. Operations that the
      figure leaves open are those of TensorFlow's `NASCell`.

    Deviations:
      The products with the state have biases, which are optional in TensorFlow's `NASCell`.
    """

    hidden_size: int

    def __post_init__(self) -> None:
        check.positive(self, "hidden_size")

    def init(self, key: Array, input_size: int) -> NASCellParams:
        n = self.hidden_size
        k_x, k_h = jax.random.split(key)
        w_x = gates(glorot_uniform, k_x, (input_size, n), 8)
        w_h = gates(orthogonal, k_h, (n, n), 8)
        return NASCellParams(w_x, w_h, jnp.zeros(8 * n))

    def initial_state(self, params, batch_shape=(), dtype=None) -> NASCellState:
        return NASCellState(*zeros(params, batch_shape, dtype, self.hidden_size, self.hidden_size))

    def project(self, params: NASCellParams, x: Array, key: Keys = None) -> Array:
        return affine(x, params.w_x)

    def step(self, params: NASCellParams, state: NASCellState, z: Array) -> NASCellState:
        p = jnp.split(z, 8, axis=-1)
        q = jnp.split(affine(state.h, params.w_h, params.b), 8, axis=-1)
        a = [x + h for x, h in zip(p, q, strict=True)]
        u = tanh(tanh(sigmoid(a[0]) * relu(a[1])) + state.c)
        c = u * tanh(sigmoid(a[2]) + relu(p[3] * q[3]))
        v = tanh(tanh(tanh(a[4]) * sigmoid(a[5])) + sigmoid(tanh(a[6]) + sigmoid(a[7])))
        return NASCellState(h=tanh(c * v), c=c)

    def readout(self, params: NASCellParams, state: NASCellState, z: Array) -> Array:
        return state.h
