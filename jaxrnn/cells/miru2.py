"""Minion recurrent unit without gates."""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from jaxrnn import _check as check
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
    r"""Minion recurrent unit without gates: constants replace both gates of a gated recurrent unit.

    This is the second of the paper's two units: an `Elman` network whose state moves only part of the way to its new
    value in each step. `MiRU1` keeps the reset gate.

    .. math::
        a_t &= \tanh(W x_t + R (\beta h_{t-1}) + b) \\
        h_t &= \lambda h_{t-1} + (1 - \lambda) a_t

    The output is :math:`h_t`.

    Example:
      >>> cell = jaxrnn.MiRU2(hidden_size=64, update_rate=0.9)
      >>> params = cell.init(jax.random.key(0), input_size=8)
      >>> state, ys = jaxrnn.unroll(cell, params, jnp.zeros((20, 32, 8)))  # [time, batch, input]
      >>> ys.shape
      (20, 32, 64)

    Args:
      hidden_size: Size of :math:`h`.
      update_rate: The share :math:`\lambda` of the state that a step keeps, from 0 to below 1.
      reset_rate: The share :math:`\beta` of the state that the candidate sees, from 0 to 1.

    References:
      A. Zyarah, D. Kudithipudi, "Minion gated recurrent unit for continual learning", 2025.
    """

    hidden_size: int
    _: KW_ONLY
    update_rate: float = 0.5
    reset_rate: float = 0.5

    def __post_init__(self) -> None:
        check.positive(self, "hidden_size")
        check.rate(self, "update_rate")
        check.between(self, "reset_rate", 0, 1)

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
