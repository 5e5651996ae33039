"""Bistable recurrent cell."""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from jaxrnn import _check as check
from jaxrnn.initializers import Chrono, gate_biases, gates, glorot_uniform, uniform
from jaxrnn.layer import Cell, Keys
from jaxrnn.ops import affine, align, sigmoid, tanh, zeros


class BRCParams(NamedTuple):
    w_x: Array  # [input, 3 * hidden], gates in the order a, c, h
    w_h: Array  # [2, hidden], the diagonals in the order a, c
    b: Array  # [3 * hidden]


class BRCState(NamedTuple):
    h: Array  # [*batch, hidden]


class BRCGates(NamedTuple):
    a: Array  # [*batch, hidden], feedback, from 0 to 2
    c: Array  # update gate


@dataclass(frozen=True)
class BRC(Cell):
    r"""Bistable recurrent cell: each unit sees only its own state and can hold it without the others.

    A unit with :math:`a_t > 1` has two stable states, which lets it remember. `NBRC` lets all units modulate the memory
    of each one.

    .. math::
        a_t &= 1 + \tanh(W_a x_t + w_a \odot h_{t-1} + b_a) \\
        c_t &= \sigma(W_c x_t + w_c \odot h_{t-1} + b_c) \\
        h_t &= c_t \odot h_{t-1} + (1 - c_t) \odot \tanh(W_h x_t + a_t \odot h_{t-1} + b_h)

    The output is :math:`h_t`.

    Example:
      >>> cell = jaxrnn.BRC(hidden_size=32)
      >>> params = cell.init(jax.random.key(0), input_size=8)
      >>> params.w_h.shape  # two diagonals, no matrix
      (2, 32)
      >>> state, ys = jaxrnn.unroll(cell, params, jnp.zeros((20, 4, 8)))  # [time, batch, input]
      >>> ys.shape
      (20, 4, 32)

    Args:
      hidden_size: Size of :math:`h`.
      keep_bias: Initial value of :math:`b_c`: a number, or `Chrono(longest)`. Above zero the state lasts longer.

    References:
      N. Vecoven, D. Ernst, G. Drion, "A bio-inspired bistable recurrent cell allows for long-lasting memory", 2021.

    Deviations:
      The biases are added.
    """

    hidden_size: int
    _: KW_ONLY
    keep_bias: float | Chrono = 0.0

    def __post_init__(self) -> None:
        check.positive(self, "hidden_size")
        check.gate_bias(self, "keep_bias")

    def init(self, key: Array, input_size: int) -> BRCParams:
        n = self.hidden_size
        k_x, k_h, k_b = jax.random.split(key, 3)
        w_x = gates(glorot_uniform, k_x, (input_size, n), 3)
        b_c, _ = gate_biases(k_b, self.keep_bias, n)
        return BRCParams(w_x, uniform(1.0)(k_h, (2, n)), jnp.concatenate([jnp.zeros(n), b_c, jnp.zeros(n)]))

    def initial_state(self, params, batch_shape=(), dtype=None) -> BRCState:
        return BRCState(*zeros(params, batch_shape, dtype, self.hidden_size))

    def project(self, params: BRCParams, x: Array, key: Keys = None) -> Array:
        return affine(x, params.w_x, params.b)

    def gates(self, params: BRCParams, state: BRCState, z: Array) -> BRCGates:
        """Returns the gates of a step, given the state before it."""
        x_a, x_c, _ = jnp.split(z, 3, axis=-1)
        w_a, w_c = align(tuple(params.w_h), state.h)
        h_a, h_c = w_a * state.h, w_c * state.h
        return BRCGates(1 + tanh(x_a + h_a), sigmoid(x_c + h_c))

    def step(self, params: BRCParams, state: BRCState, z: Array) -> BRCState:
        _, _, x_h = jnp.split(z, 3, axis=-1)
        a, c = self.gates(params, state, z)
        return BRCState(h=c * state.h + (1 - c) * tanh(x_h + a * state.h))

    def readout(self, params: BRCParams, state: BRCState, z: Array) -> Array:
        return state.h
