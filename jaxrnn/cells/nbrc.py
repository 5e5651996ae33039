"""Recurrently neuromodulated bistable recurrent cell."""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from jaxrnn import _check as check
from jaxrnn.initializers import Chrono, gate_biases, gates, glorot_uniform, orthogonal
from jaxrnn.layer import Cell, Keys
from jaxrnn.ops import affine, sigmoid, tanh, zeros


class NBRCParams(NamedTuple):
    w_x: Array  # [input, 3 * hidden], in the order a, c, h
    w_h: Array  # [hidden, 2 * hidden], gates in the order a, c
    b: Array  # [3 * hidden]


class NBRCState(NamedTuple):
    h: Array  # [*batch, hidden]


class NBRCGates(NamedTuple):
    a: Array  # [*batch, hidden], feedback, from 0 to 2
    c: Array  # update gate


@dataclass(frozen=True)
class NBRC(Cell):
    r"""Bistable recurrent cell with recurrent neuromodulation (nBRC).

    Each unit remembers by itself: the candidate sees only the unit's own state. How it does so is modulated by
    :math:`a_t` and :math:`c_t`, which see the states of all units, where those of `BRC` see only their own. A unit has
    two stable states where :math:`a_t > 1`.

    .. math::
        a_t &= 1 + \tanh(W_a x_t + R_a h_{t-1} + b_a) \\
        c_t &= \sigma(W_c x_t + R_c h_{t-1} + b_c) \\
        h_t &= c_t \odot h_{t-1} + (1 - c_t) \odot \tanh(W_h x_t + a_t \odot h_{t-1} + b_h)

    The output is :math:`h_t`.

    Example:
      >>> cell = jaxrnn.NBRC(hidden_size=64)
      >>> params = cell.init(jax.random.key(0), input_size=8)
      >>> state, ys = jaxrnn.unroll(cell, params, jnp.zeros((20, 32, 8)))  # [time, batch, input]
      >>> ys.shape
      (20, 32, 64)

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

    def init(self, key: Array, input_size: int) -> NBRCParams:
        n = self.hidden_size
        k_x, k_h, k_b = jax.random.split(key, 3)
        w_x = gates(glorot_uniform, k_x, (input_size, n), 3)
        b_c, _ = gate_biases(k_b, self.keep_bias, n)
        w_h = gates(orthogonal, k_h, (n, n), 2)
        return NBRCParams(w_x, w_h, jnp.concatenate([jnp.zeros(n), b_c, jnp.zeros(n)]))

    def initial_state(self, params, batch_shape=(), dtype=None) -> NBRCState:
        return NBRCState(*zeros(params, batch_shape, dtype, self.hidden_size))

    def project(self, params: NBRCParams, x: Array, key: Keys = None) -> Array:
        return affine(x, params.w_x, params.b)

    def gates(self, params: NBRCParams, state: NBRCState, z: Array) -> NBRCGates:
        """Returns the gates of a step, given the state before it."""
        x_a, x_c, _ = jnp.split(z, 3, axis=-1)
        h_a, h_c = jnp.split(state.h @ params.w_h, 2, axis=-1)
        return NBRCGates(1 + tanh(x_a + h_a), sigmoid(x_c + h_c))

    def step(self, params: NBRCParams, state: NBRCState, z: Array) -> NBRCState:
        _, _, x_h = jnp.split(z, 3, axis=-1)
        a, c = self.gates(params, state, z)
        return NBRCState(h=c * state.h + (1 - c) * tanh(x_h + a * state.h))

    def readout(self, params: NBRCParams, state: NBRCState, z: Array) -> Array:
        return state.h
