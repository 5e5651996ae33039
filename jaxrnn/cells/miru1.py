"""The minion recurrent unit with a reset gate."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from jaxrnn.initializers import gates, glorot_uniform, orthogonal
from jaxrnn.layer import Cell, Keys
from jaxrnn.ops import affine, sigmoid, tanh, zeros


class MiRU1Params(NamedTuple):
    w_x: Array  # [input, 2 * hidden], gates in the order r, a
    w_h: Array  # [hidden, hidden], of the gate
    w_a: Array  # [hidden, hidden], of the candidate
    b: Array  # [2 * hidden]


class MiRU1State(NamedTuple):
    h: Array  # [*batch, hidden]


@dataclass(frozen=True)
class MiRU1(Cell):
    r"""Minion recurrent unit, its first form: a constant in the place of a gated recurrent unit's update gate.

    .. math::
        r_t &= \sigma(W_r x_t + R_r h_{t-1} + b_r) \\
        a_t &= \tanh(W_a x_t + R_a (r_t \odot h_{t-1}) + b_a) \\
        h_t &= \lambda h_{t-1} + (1 - \lambda) a_t

    The output is :math:`h_t`.

    Args:
      hidden_size: size of :math:`h`.
      update_rate: :math:`\lambda`, the share of the state that a step keeps.

    References: A. Zyarah, D. Kudithipudi, "Minion gated recurrent unit for continual learning", 2025.
    """

    hidden_size: int
    update_rate: float = 0.5

    def init(self, key: Array, input_size: int) -> MiRU1Params:
        n = self.hidden_size
        k_x, k_h, k_a = jax.random.split(key, 3)
        w_x = gates(glorot_uniform, k_x, (input_size, n), 2)
        return MiRU1Params(w_x, orthogonal(k_h, (n, n)), orthogonal(k_a, (n, n)), jnp.zeros(2 * n))

    def initial_state(self, params, batch_shape=(), dtype=None) -> MiRU1State:
        return MiRU1State(*zeros(params, batch_shape, dtype, self.hidden_size))

    def project(self, params: MiRU1Params, x: Array, key: Keys = None) -> Array:
        return affine(x, params.w_x, params.b)

    def step(self, params: MiRU1Params, state: MiRU1State, z: Array) -> MiRU1State:
        x_r, x_a = jnp.split(z, 2, axis=-1)
        r = sigmoid(x_r + state.h @ params.w_h)
        a = tanh(x_a + (r * state.h) @ params.w_a)
        return MiRU1State(h=self.update_rate * state.h + (1 - self.update_rate) * a)

    def readout(self, params: MiRU1Params, state: MiRU1State, z: Array) -> Array:
        return state.h
