"""The minimal gated unit."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from jaxrnn.initializers import Chrono, gate_biases, gates, glorot_uniform, orthogonal
from jaxrnn.layer import Cell, Keys
from jaxrnn.ops import affine, sigmoid, tanh, zeros


class MGUParams(NamedTuple):
    w_x: Array  # [input, 2 * hidden], gates in the order f, a
    w_h: Array  # [hidden, hidden], of the gate
    w_a: Array  # [hidden, hidden], of the candidate
    b: Array  # [2 * hidden]


class MGUState(NamedTuple):
    h: Array  # [*batch, hidden]


@dataclass(frozen=True)
class MGU(Cell):
    r"""Minimal gated unit: a gated recurrent unit with one gate.

    .. math::
        f_t &= \sigma(W_f x_t + R_f h_{t-1} + b_f) \\
        a_t &= \tanh(W_a x_t + R_a (f_t \odot h_{t-1}) + b_a) \\
        h_t &= (1 - f_t) \odot h_{t-1} + f_t \odot a_t

    The output is :math:`h_t`. The one gate resets and writes: at 1 the candidate sees the state and replaces it.
    Flax' `MGUCell` is another function, `ResetAfterMGU`.

    Args:
      hidden_size: size of :math:`h`.
      keep_bias: initial value of :math:`-b_f`, a number or `Chrono(longest)`; above zero the state lasts longer.

    References: G. Zhou, J. Wu, C. Zhang, Z. Zhou, "Minimal gated unit for recurrent neural networks", 2016.
    """

    hidden_size: int
    keep_bias: float | Chrono = 0.0

    def init(self, key: Array, input_size: int) -> MGUParams:
        n = self.hidden_size
        k_x, k_h, k_a, k_b = jax.random.split(key, 4)
        w_x = gates(glorot_uniform, k_x, (input_size, n), 2)
        w_h, w_a = orthogonal(k_h, (n, n)), orthogonal(k_a, (n, n))
        b_keep, _ = gate_biases(k_b, self.keep_bias, n)
        return MGUParams(w_x, w_h, w_a, jnp.concatenate([-b_keep, jnp.zeros(n)]))

    def initial_state(self, params, batch_shape=(), dtype=None) -> MGUState:
        return MGUState(*zeros(params, batch_shape, dtype, self.hidden_size))

    def project(self, params: MGUParams, x: Array, key: Keys = None) -> Array:
        return affine(x, params.w_x, params.b)

    def step(self, params: MGUParams, state: MGUState, z: Array) -> MGUState:
        x_f, x_a = jnp.split(z, 2, axis=-1)
        f = sigmoid(x_f + state.h @ params.w_h)
        a = tanh(x_a + (f * state.h) @ params.w_a)
        return MGUState(h=(1 - f) * state.h + f * a)

    def readout(self, params: MGUParams, state: MGUState, z: Array) -> Array:
        return state.h
