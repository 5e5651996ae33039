"""Minimal gated unit with the gate applied after the recurrent product."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import KW_ONLY, dataclass, field
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from jaxrnn import _check as check
from jaxrnn.initializers import Chrono, gate_biases, gates, glorot_uniform, orthogonal
from jaxrnn.layer import Cell, Keys
from jaxrnn.ops import affine, align, sigmoid, tanh, zeros


class ResetAfterMGUParams(NamedTuple):
    w_x: Array  # [input, 2 * hidden], gates in the order f, n
    w_h: Array  # [hidden, 2 * hidden]
    b: Array  # [2 * hidden]
    b_n: Array  # [hidden], the bias inside the reset


class ResetAfterMGUState(NamedTuple):
    h: Array  # [*batch, hidden]


class ResetAfterMGUGates(NamedTuple):
    f: Array  # [*batch, hidden], reset gate and update gate
    n: Array  # candidate


@dataclass(frozen=True)
class ResetAfterMGU(Cell):
    r"""Minimal gated unit with the gate applied after the recurrent product.

    This is the function of Flax's `MGUCell`: a `GRU` whose reset and update gates are one and the same. `MGU` applies
    the gate before the product, as in the paper.

    .. math::
        f_t &= \sigma(W_f x_t + R_f h_{t-1} + b_f) \\
        n_t &= \tanh(W_n x_t + b_n^x + f_t \odot (R_n h_{t-1} + b_n^h)) \\
        h_t &= (1 - f_t) \odot n_t + f_t \odot h_{t-1}

    The output is :math:`h_t`.

    Example:
      >>> cell = jaxrnn.ResetAfterMGU(hidden_size=64)
      >>> params = cell.init(jax.random.key(0), input_size=8)
      >>> state, ys = jaxrnn.unroll(cell, params, jnp.zeros((20, 32, 8)))  # [time, batch, input]
      >>> ys.shape
      (20, 32, 64)

    Args:
      hidden_size: Size of :math:`h`.
      forget_bias: Initial value of :math:`b_f`: a number, or `Chrono(longest)`. Above zero the state lasts longer.
      activation: The elementwise function in place of tanh.
      gate_activation: The elementwise function in place of :math:`\sigma`.

    References:
      G. Zhou, J. Wu, C. Zhang, Z. Zhou, "Minimal gated unit for recurrent neural networks", 2016.

    Deviations:
      All are as in Flax. The gate is applied after the product, with :math:`b_n^h` inside, where the paper multiplies
      the state by the gate before the product; and :math:`f_t` keeps the state, where the paper's gate writes to it.
    """

    hidden_size: int
    _: KW_ONLY
    forget_bias: float | Chrono = 1.0
    activation: Callable[[Array], Array] = field(default=tanh, repr=False)
    gate_activation: Callable[[Array], Array] = field(default=sigmoid, repr=False)

    def __post_init__(self) -> None:
        check.positive(self, "hidden_size")
        check.gate_bias(self, "forget_bias")
        check.function(self, "activation", "gate_activation")

    def init(self, key: Array, input_size: int) -> ResetAfterMGUParams:
        n = self.hidden_size
        k_x, k_h, k_b = jax.random.split(key, 3)
        w_x = gates(glorot_uniform, k_x, (input_size, n), 2)
        w_h = gates(orthogonal, k_h, (n, n), 2)
        b_f, _ = gate_biases(k_b, self.forget_bias, n)
        return ResetAfterMGUParams(w_x, w_h, jnp.concatenate([b_f, jnp.zeros(n)]), jnp.zeros(n))

    def initial_state(self, params, batch_shape=(), dtype=None) -> ResetAfterMGUState:
        return ResetAfterMGUState(*zeros(params, batch_shape, dtype, self.hidden_size))

    def project(self, params: ResetAfterMGUParams, x: Array, key: Keys = None) -> Array:
        return affine(x, params.w_x, params.b)

    def gates(self, params: ResetAfterMGUParams, state: ResetAfterMGUState, z: Array) -> ResetAfterMGUGates:
        """Returns the gates and the candidate of a step, given the state before it."""
        x_f, x_n = jnp.split(z, 2, axis=-1)
        h_f, h_n = jnp.split(state.h @ params.w_h, 2, axis=-1)
        f = self.gate_activation(x_f + h_f)
        return ResetAfterMGUGates(f, self.activation(x_n + f * (h_n + align(params.b_n, h_n))))

    def step(self, params: ResetAfterMGUParams, state: ResetAfterMGUState, z: Array) -> ResetAfterMGUState:
        f, n = self.gates(params, state, z)
        return ResetAfterMGUState(h=(1 - f) * n + f * state.h)

    def readout(self, params: ResetAfterMGUParams, state: ResetAfterMGUState, z: Array) -> Array:
        return state.h
