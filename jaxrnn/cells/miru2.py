"""The minion recurrent unit without gates."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from jaxrnn.initializers import glorot_uniform, orthogonal
from jaxrnn.layer import Cell, Keys
from jaxrnn.ops import affine, tanh, zeros


class MiRU2Params(NamedTuple):
    w_x: Array  # [input, hidden]
    w_h: Array  # [hidden, hidden]
    b: Array  # [hidden]


class MiRU2State(NamedTuple):
    h: Array  # [*batch, hidden]


@dataclass(frozen=True)
class MiRU2(Cell):
    r"""Minion recurrent unit, its second form: constants in the place of both gates of a gated recurrent unit.

    .. math::
        a_t &= \tanh(W x_t + R (\beta h_{t-1}) + b) \\
        h_t &= \lambda h_{t-1} + (1 - \lambda) a_t

    The output is :math:`h_t`.

    Args:
      hidden_size: size of :math:`h`.
      update_rate: :math:`\lambda`, the share of the state that a step keeps.
      reset_rate: :math:`\beta`, the share of the state that the candidate sees.

    References: A. Zyarah, D. Kudithipudi, "Minion gated recurrent unit for continual learning", 2025.
    """

    hidden_size: int
    update_rate: float = 0.5
    reset_rate: float = 0.5

    def init(self, key: Array, input_size: int) -> MiRU2Params:
        n = self.hidden_size
        k_x, k_h = jax.random.split(key)
        return MiRU2Params(glorot_uniform(k_x, (input_size, n)), orthogonal(k_h, (n, n)), jnp.zeros(n))

    def initial_state(self, params, batch_shape=(), dtype=None) -> MiRU2State:
        return MiRU2State(*zeros(params, batch_shape, dtype, self.hidden_size))

    def project(self, params: MiRU2Params, x: Array, key: Keys = None) -> Array:
        return affine(x, params.w_x, params.b)

    def step(self, params: MiRU2Params, state: MiRU2State, z: Array) -> MiRU2State:
        a = tanh(z + (self.reset_rate * state.h) @ params.w_h)
        return MiRU2State(h=self.update_rate * state.h + (1 - self.update_rate) * a)

    def readout(self, params: MiRU2Params, state: MiRU2State, z: Array) -> Array:
        return state.h
