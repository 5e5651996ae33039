"""Gated recurrent unit with the reset gate applied before the recurrent product."""

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
from jaxrnn.ops import affine, sigmoid, tanh, zeros


class ResetBeforeGRUParams(NamedTuple):
    w_x: Array  # [input, 3 * hidden], gates in the order r, z, a
    w_h: Array  # [hidden, 2 * hidden], gates in the order r, z
    w_a: Array  # [hidden, hidden], for the candidate
    b: Array  # [3 * hidden]


class ResetBeforeGRUState(NamedTuple):
    h: Array  # [*batch, hidden]


class ResetBeforeGRUGates(NamedTuple):
    r: Array  # [*batch, hidden], reset gate
    z: Array  # update gate
    a: Array  # candidate


@dataclass(frozen=True)
class ResetBeforeGRU(Cell):
    r"""Gated recurrent unit with the reset gate applied to the state before the recurrent product.

    This is the variant of the paper's final version. `GRU` applies the gate after the product. The update gate
    :math:`z_t` writes to the state here, whereas in `GRU` it keeps the state.

    .. math::
        r_t &= \sigma(W_r x_t + R_r h_{t-1} + b_r) \\
        z_t &= \sigma(W_z x_t + R_z h_{t-1} + b_z) \\
        a_t &= \tanh(W_a x_t + R_a (r_t \odot h_{t-1}) + b_a) \\
        h_t &= (1 - z_t) \odot h_{t-1} + z_t \odot a_t

    The output is :math:`h_t`.

    Example:
      >>> cell = jaxrnn.ResetBeforeGRU(hidden_size=64)
      >>> params = cell.init(jax.random.key(0), input_size=8)
      >>> state, ys = jaxrnn.unroll(cell, params, jnp.zeros((20, 32, 8)))  # [time, batch, input]
      >>> ys.shape
      (20, 32, 64)

    Args:
      hidden_size: Size of :math:`h`.
      keep_bias: Initial value of :math:`-b_z`: a number, or `Chrono(longest)`. Above zero the state lasts longer.
      activation: The elementwise function in place of tanh.
      gate_activation: The elementwise function in place of :math:`\sigma`.

    References:
      K. Cho et al., "Learning phrase representations using RNN encoder-decoder for statistical machine translation",
      2014 (version 3); J. Chung et al., "Empirical evaluation of gated recurrent neural networks on sequence modeling",
      2014, for the sense of :math:`z_t`.

    Deviations:
      The biases are added.
    """

    hidden_size: int
    _: KW_ONLY
    keep_bias: float | Chrono = 0.0
    activation: Callable[[Array], Array] = field(default=tanh, repr=False)
    gate_activation: Callable[[Array], Array] = field(default=sigmoid, repr=False)

    def __post_init__(self) -> None:
        check.positive(self, "hidden_size")
        check.gate_bias(self, "keep_bias")
        check.function(self, "activation", "gate_activation")

    def init(self, key: Array, input_size: int) -> ResetBeforeGRUParams:
        n = self.hidden_size
        k_x, k_h, k_a, k_b = jax.random.split(key, 4)
        w_x = gates(glorot_uniform, k_x, (input_size, n), 3)
        w_h = gates(orthogonal, k_h, (n, n), 2)
        w_a = orthogonal(k_a, (n, n))
        b_keep, _ = gate_biases(k_b, self.keep_bias, n)
        return ResetBeforeGRUParams(w_x, w_h, w_a, jnp.concatenate([jnp.zeros(n), -b_keep, jnp.zeros(n)]))

    def initial_state(self, params, batch_shape=(), dtype=None) -> ResetBeforeGRUState:
        return ResetBeforeGRUState(*zeros(params, batch_shape, dtype, self.hidden_size))

    def project(self, params: ResetBeforeGRUParams, x: Array, key: Keys = None) -> Array:
        return affine(x, params.w_x, params.b)

    def gates(self, params: ResetBeforeGRUParams, state: ResetBeforeGRUState, z: Array) -> ResetBeforeGRUGates:
        """Returns the gates and the candidate of a step, given the state before it."""
        n = self.hidden_size
        r, update = jnp.split(self.gate_activation(z[..., : 2 * n] + state.h @ params.w_h), 2, axis=-1)
        return ResetBeforeGRUGates(r, update, self.activation(z[..., 2 * n :] + (r * state.h) @ params.w_a))

    def step(self, params: ResetBeforeGRUParams, state: ResetBeforeGRUState, z: Array) -> ResetBeforeGRUState:
        _, update, a = self.gates(params, state, z)
        return ResetBeforeGRUState(h=(1 - update) * state.h + update * a)

    def readout(self, params: ResetBeforeGRUParams, state: ResetBeforeGRUState, z: Array) -> Array:
        return state.h
