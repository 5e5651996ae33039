"""Gated recurrent unit with weighted time-delay feedback."""

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


class TauGRUParams(NamedTuple):
    w_x: Array  # [input, 4 * hidden], in the order u, g, a, z
    w_h: Array  # [hidden, 3 * hidden], in the order u, g, a
    w_d: Array  # [hidden, hidden], from the delayed state
    b: Array  # [4 * hidden]


class TauGRUState(NamedTuple):
    h: Array  # [*batch, hidden]
    past: Array  # [*batch, delay, hidden], the states before h, the oldest first


class TauGRUGates(NamedTuple):
    u: Array  # [*batch, hidden], candidate
    z: Array  # delayed candidate
    g: Array  # update gate
    a: Array  # gate of the delayed candidate


@dataclass(frozen=True)
class TauGRU(Cell):
    r"""Gated recurrent unit with weighted time-delay feedback (:math:`\tau`-GRU): it also reads an older state.

    The delayed state is a shortcut across :math:`d + 1` steps, for the state and for the gradient. The cell also stores
    the :math:`d` states before the last one, zeros at first, so its memory use grows with the delay.

    .. math::
        u_t &= \tanh(W_u x_t + R_u h_{t-1} + b_u) \\
        z_t &= \tanh(W_z x_t + R_z h_{t-1-d} + b_z) \\
        g_t &= \sigma(W_g x_t + R_g h_{t-1} + b_g) \\
        a_t &= \sigma(W_a x_t + R_a h_{t-1} + b_a) \\
        h_t &= (1 - g_t) \odot h_{t-1} + g_t \odot (u_t + a_t \odot z_t)

    The output is :math:`h_t`.

    Example:
      >>> cell = jaxrnn.TauGRU(hidden_size=64, delay_size=5)
      >>> params = cell.init(jax.random.key(0), input_size=8)
      >>> state, ys = jaxrnn.unroll(cell, params, jnp.zeros((20, 32, 8)))  # [time, batch, input]
      >>> ys.shape, state.past.shape
      ((20, 32, 64), (32, 5, 64))

    Args:
      hidden_size: Size of :math:`h`.
      delay_size: :math:`d`, the number of steps between the delayed state and the last one.
      keep_bias: Initial value of :math:`-b_g`: a number, or `Chrono(longest)`. Above zero the state lasts longer.

    References:
      N. Erichson, S. Lim, M. Mahoney, "Gated recurrent neural networks with weighted time-delay feedback", 2022.

    Deviations:
      The biases are added.
    """

    hidden_size: int
    delay_size: int
    _: KW_ONLY
    keep_bias: float | Chrono = 0.0

    def __post_init__(self) -> None:
        check.positive(self, "hidden_size", "delay_size")
        check.gate_bias(self, "keep_bias")

    def init(self, key: Array, input_size: int) -> TauGRUParams:
        n = self.hidden_size
        k_x, k_h, k_d, k_b = jax.random.split(key, 4)
        w_x = gates(glorot_uniform, k_x, (input_size, n), 4)
        w_h = gates(orthogonal, k_h, (n, n), 3)
        b_keep, _ = gate_biases(k_b, self.keep_bias, n)
        b = jnp.concatenate([jnp.zeros(n), -b_keep, jnp.zeros(2 * n)])
        return TauGRUParams(w_x, w_h, orthogonal(k_d, (n, n)), b)

    def initial_state(self, params, batch_shape=(), dtype=None) -> TauGRUState:
        n = self.hidden_size
        (h,) = zeros(params, batch_shape, dtype, n)
        (past,) = zeros(params, (*batch_shape, self.delay_size), dtype, n)
        return TauGRUState(h, past)

    def project(self, params: TauGRUParams, x: Array, key: Keys = None) -> Array:
        return affine(x, params.w_x, params.b)

    def gates(self, params: TauGRUParams, state: TauGRUState, z: Array) -> TauGRUGates:
        """Returns the gates and the candidate of a step, given the state before it."""
        n = self.hidden_size
        u, g, a = jnp.split(z[..., : 3 * n] + state.h @ params.w_h, 3, axis=-1)
        delayed = tanh(z[..., 3 * n :] + state.past[..., 0, :] @ params.w_d)
        return TauGRUGates(tanh(u), delayed, sigmoid(g), sigmoid(a))

    def step(self, params: TauGRUParams, state: TauGRUState, z: Array) -> TauGRUState:
        u, delayed, g, a = self.gates(params, state, z)
        h = (1 - g) * state.h + g * (u + a * delayed)
        past = jnp.concatenate([state.past[..., 1:, :], state.h[..., None, :]], axis=-2)
        return TauGRUState(h=h, past=past)

    def readout(self, params: TauGRUParams, state: TauGRUState, z: Array) -> Array:
        return state.h
