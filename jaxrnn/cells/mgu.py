"""Minimal gated unit."""

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


class MGUParams(NamedTuple):
    w_x: Array  # [input, 2 * hidden], in the order f, a
    w_h: Array  # [hidden, hidden], for the gate f
    w_a: Array  # [hidden, hidden], for the candidate a
    b: Array  # [2 * hidden]


class MGUState(NamedTuple):
    h: Array  # [*batch, hidden]


class MGUGates(NamedTuple):
    f: Array  # [*batch, hidden], reset gate and update gate
    a: Array  # candidate


@dataclass(frozen=True)
class MGU(Cell):
    r"""Minimal gated unit: a gated recurrent unit with one gate.

    The same gate resets the state that the candidate reads and decides how much of the candidate is written: at 1 the
    candidate reads the whole state and replaces it. `ResetAfterMGU`, which is Flax's `MGUCell`, applies the gate after
    the recurrent product instead.

    .. math::
        f_t &= \sigma(W_f x_t + R_f h_{t-1} + b_f) \\
        a_t &= \tanh(W_a x_t + R_a (f_t \odot h_{t-1}) + b_a) \\
        h_t &= (1 - f_t) \odot h_{t-1} + f_t \odot a_t

    The output is :math:`h_t`.

    Example:
      >>> cell = jaxrnn.MGU(hidden_size=64)
      >>> params = cell.init(jax.random.key(0), input_size=8)
      >>> state, ys = jaxrnn.unroll(cell, params, jnp.zeros((20, 32, 8)))  # [time, batch, input]
      >>> ys.shape
      (20, 32, 64)

    Args:
      hidden_size: Size of :math:`h`.
      keep_bias: Initial value of :math:`-b_f`: a number, or `Chrono(longest)`. Above zero the state lasts longer.

    References:
      G. Zhou, J. Wu, C. Zhang, Z. Zhou, "Minimal gated unit for recurrent neural networks", 2016.
    """

    hidden_size: int
    _: KW_ONLY
    keep_bias: float | Chrono = 0.0

    def __post_init__(self) -> None:
        check.positive(self, "hidden_size")
        check.gate_bias(self, "keep_bias")

    def init(self, key: Array, input_size: int) -> MGUParams:
        n = self.hidden_size
        k_x, k_h, k_a, k_b = jax.random.split(key, 4)
        w_x = gates(glorot_uniform, k_x, (input_size, n), 2)
        w_h = orthogonal(k_h, (n, n))
        w_a = orthogonal(k_a, (n, n))
        b_keep, _ = gate_biases(k_b, self.keep_bias, n)
        return MGUParams(w_x, w_h, w_a, jnp.concatenate([-b_keep, jnp.zeros(n)]))

    def initial_state(self, params, batch_shape=(), dtype=None) -> MGUState:
        return MGUState(*zeros(params, batch_shape, dtype, self.hidden_size))

    def project(self, params: MGUParams, x: Array, key: Keys = None) -> Array:
        return affine(x, params.w_x, params.b)

    def gates(self, params: MGUParams, state: MGUState, z: Array) -> MGUGates:
        """Returns the gates and the candidate of a step, given the state before it."""
        x_f, x_a = jnp.split(z, 2, axis=-1)
        f = sigmoid(x_f + state.h @ params.w_h)
        return MGUGates(f, tanh(x_a + (f * state.h) @ params.w_a))

    def step(self, params: MGUParams, state: MGUState, z: Array) -> MGUState:
        f, a = self.gates(params, state, z)
        return MGUState(h=(1 - f) * state.h + f * a)

    def readout(self, params: MGUParams, state: MGUState, z: Array) -> Array:
        return state.h
