"""Light recurrent unit."""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from jaxrnn import _check as check
from jaxrnn.initializers import Chrono, gate_biases, gates, glorot_uniform, orthogonal
from jaxrnn.layer import Cell, Keys
from jaxrnn.ops import affine, align, sigmoid, tanh, zeros


class LightRUParams(NamedTuple):
    w_x: Array  # [input, 2 * hidden], gates in the order f, a
    w_h: Array  # [hidden, hidden], for the gate
    b: Array  # [hidden], for the gate


class LightRUState(NamedTuple):
    h: Array  # [*batch, hidden]


class LightRUGates(NamedTuple):
    f: Array  # [*batch, hidden], update gate
    a: Array  # candidate


@dataclass(frozen=True)
class LightRU(Cell):
    r"""Light recurrent unit: one gate, and a candidate that depends on the input only.

    Only the gate reads the state, so that the cell has one recurrent matrix.

    .. math::
        a_t &= \tanh(W_a x_t) \\
        f_t &= \sigma(W_f x_t + R_f h_{t-1} + b_f) \\
        h_t &= (1 - f_t) \odot h_{t-1} + f_t \odot a_t

    The output is :math:`h_t`.

    Example:
      >>> cell = jaxrnn.LightRU(hidden_size=64)
      >>> params = cell.init(jax.random.key(0), input_size=8)
      >>> state, ys = jaxrnn.unroll(cell, params, jnp.zeros((20, 4, 8)))  # [time, batch, input]
      >>> ys.shape, params.w_h.shape
      ((20, 4, 64), (64, 64))

    Args:
      hidden_size: Size of :math:`h`.
      keep_bias: Initial value of :math:`-b_f`: a number, or `Chrono(longest)`. Above zero the state lasts longer.

    References:
      H. Ye, Y. Zhang, H. Liu, X. Li, J. Chang, H. Zheng, "Light recurrent unit: towards an interpretable recurrent
      neural network for modeling long-range dependency", 2024.
    """

    hidden_size: int
    _: KW_ONLY
    keep_bias: float | Chrono = 0.0

    def __post_init__(self) -> None:
        check.positive(self, "hidden_size")
        check.gate_bias(self, "keep_bias")

    def init(self, key: Array, input_size: int) -> LightRUParams:
        n = self.hidden_size
        k_x, k_h, k_b = jax.random.split(key, 3)
        w_x = gates(glorot_uniform, k_x, (input_size, n), 2)
        b_keep, _ = gate_biases(k_b, self.keep_bias, n)
        return LightRUParams(w_x, orthogonal(k_h, (n, n)), -b_keep)

    def initial_state(self, params, batch_shape=(), dtype=None) -> LightRUState:
        return LightRUState(*zeros(params, batch_shape, dtype, self.hidden_size))

    def project(self, params: LightRUParams, x: Array, key: Keys = None) -> Array:
        x_f, x_a = jnp.split(affine(x, params.w_x), 2, axis=-1)
        return jnp.concatenate([x_f + align(params.b, x_f), tanh(x_a)], axis=-1)

    def gates(self, params: LightRUParams, state: LightRUState, z: Array) -> LightRUGates:
        """Returns the gates and the candidate of a step, given the state before it."""
        x_f, a = jnp.split(z, 2, axis=-1)
        return LightRUGates(sigmoid(x_f + state.h @ params.w_h), a)

    def step(self, params: LightRUParams, state: LightRUState, z: Array) -> LightRUState:
        f, a = self.gates(params, state, z)
        return LightRUState(h=(1 - f) * state.h + f * a)

    def readout(self, params: LightRUParams, state: LightRUState, z: Array) -> Array:
        return state.h
