"""Minion recurrent unit with a reset gate."""

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


class MiRU1Params(NamedTuple):
    w_x: Array  # [input, 2 * hidden], in the order r, a
    w_h: Array  # [hidden, hidden], for the gate r
    w_a: Array  # [hidden, hidden], for the candidate a
    b: Array  # [2 * hidden]


class MiRU1State(NamedTuple):
    h: Array  # [*batch, hidden]


class MiRU1Gates(NamedTuple):
    r: Array  # [*batch, hidden], reset gate
    a: Array  # candidate


@dataclass(frozen=True)
class MiRU1(Cell):
    r"""Minion recurrent unit with a reset gate: a constant replaces the update gate of a gated recurrent unit.

    This is the first of the paper's two units. Every step moves the state towards the candidate by the same share.
    `MiRU2` replaces the reset gate by a constant as well.

    .. math::
        r_t &= \sigma(W_r x_t + R_r h_{t-1} + b_r) \\
        a_t &= \tanh(W_a x_t + R_a (r_t \odot h_{t-1}) + b_a) \\
        h_t &= \lambda h_{t-1} + (1 - \lambda) a_t

    The output is :math:`h_t`.

    Example:
      >>> cell = jaxrnn.MiRU1(hidden_size=64, update_rate=0.9)
      >>> params = cell.init(jax.random.key(0), input_size=8)
      >>> state, ys = jaxrnn.unroll(cell, params, jnp.zeros((20, 32, 8)))  # [time, batch, input]
      >>> ys.shape
      (20, 32, 64)

    Args:
      hidden_size: Size of :math:`h`.
      update_rate: The share :math:`\lambda` of the state that a step keeps, from 0 to below 1.

    References:
      A. Zyarah, D. Kudithipudi, "Minion gated recurrent unit for continual learning", 2025.
    """

    hidden_size: int
    _: KW_ONLY
    update_rate: float = 0.5

    def __post_init__(self) -> None:
        check.positive(self, "hidden_size")
        check.rate(self, "update_rate")

    def init(self, key: Array, input_size: int) -> MiRU1Params:
        n = self.hidden_size
        k_x, k_h, k_a = jax.random.split(key, 3)
        w_x = gates(glorot_uniform, k_x, (input_size, n), 2)
        return MiRU1Params(w_x, orthogonal(k_h, (n, n)), orthogonal(k_a, (n, n)), jnp.zeros(2 * n))

    def initial_state(self, params, batch_shape=(), dtype=None) -> MiRU1State:
        return MiRU1State(*zeros(params, batch_shape, dtype, self.hidden_size))

    def project(self, params: MiRU1Params, x: Array, key: Keys = None) -> Array:
        return affine(x, params.w_x, params.b)

    def gates(self, params: MiRU1Params, state: MiRU1State, z: Array) -> MiRU1Gates:
        """Returns the gates and the candidate of a step, given the state before it."""
        x_r, x_a = jnp.split(z, 2, axis=-1)
        r = sigmoid(x_r + state.h @ params.w_h)
        return MiRU1Gates(r, tanh(x_a + (r * state.h) @ params.w_a))

    def step(self, params: MiRU1Params, state: MiRU1State, z: Array) -> MiRU1State:
        _, a = self.gates(params, state, z)
        return MiRU1State(h=self.update_rate * state.h + (1 - self.update_rate) * a)

    def readout(self, params: MiRU1Params, state: MiRU1State, z: Array) -> Array:
        return state.h
