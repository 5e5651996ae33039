"""Gated recurrent unit with the reset gate applied after the recurrent product."""

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


class GRUParams(NamedTuple):
    w_x: Array  # [input, 3 * hidden], gates in the order r, z, n
    w_h: Array  # [hidden, 3 * hidden]
    b: Array  # [3 * hidden]
    b_n: Array  # [hidden], the bias inside the reset


class GRUState(NamedTuple):
    h: Array  # [*batch, hidden]


class GRUGates(NamedTuple):
    r: Array  # [*batch, hidden], reset gate
    z: Array  # update gate
    n: Array  # candidate


@dataclass(frozen=True)
class GRU(Cell):
    r"""Gated recurrent unit with the reset gate applied after the recurrent product.

    This is the variant of PyTorch, cuDNN and Flax, and Keras' default. `ResetBeforeGRU` applies the gate before the
    product, as in the final version of the original paper.

    .. math::
        r_t &= \sigma(W_r x_t + R_r h_{t-1} + b_r) \\
        z_t &= \sigma(W_z x_t + R_z h_{t-1} + b_z) \\
        n_t &= \tanh(W_n x_t + b_n^x + r_t \odot (R_n h_{t-1} + b_n^h)) \\
        h_t &= (1 - z_t) \odot n_t + z_t \odot h_{t-1}

    The output is :math:`h_t`.

    Example:
      >>> cell = jaxrnn.GRU(hidden_size=64)
      >>> params = cell.init(jax.random.key(0), input_size=8)
      >>> state, ys = jaxrnn.unroll(cell, params, jnp.zeros((20, 32, 8)))  # [time, batch, input]
      >>> ys.shape
      (20, 32, 64)

    Args:
      hidden_size: Size of :math:`h`.
      update_bias: Initial value of :math:`b_z`: a number, or `Chrono(longest)`. Above zero the state lasts longer.
      activation: The elementwise function in place of tanh.
      gate_activation: The elementwise function in place of :math:`\sigma`.

    References:
      K. Cho et al., "Learning phrase representations using RNN encoder-decoder for statistical machine translation",
      2014 (version 1).

    Deviations:
      The biases are added, with :math:`b_n^h` inside the reset gate, as in cuDNN.
    """

    hidden_size: int
    _: KW_ONLY
    update_bias: float | Chrono = 0.0
    activation: Callable[[Array], Array] = field(default=tanh, repr=False)
    gate_activation: Callable[[Array], Array] = field(default=sigmoid, repr=False)

    def __post_init__(self) -> None:
        check.positive(self, "hidden_size")
        check.gate_bias(self, "update_bias")
        check.function(self, "activation", "gate_activation")

    def init(self, key: Array, input_size: int) -> GRUParams:
        n = self.hidden_size
        k_x, k_h, k_b = jax.random.split(key, 3)
        w_x = gates(glorot_uniform, k_x, (input_size, n), 3)
        w_h = gates(orthogonal, k_h, (n, n), 3)
        b_z, _ = gate_biases(k_b, self.update_bias, n)
        return GRUParams(w_x, w_h, jnp.concatenate([jnp.zeros(n), b_z, jnp.zeros(n)]), jnp.zeros(n))

    def initial_state(self, params, batch_shape=(), dtype=None) -> GRUState:
        return GRUState(*zeros(params, batch_shape, dtype, self.hidden_size))

    def project(self, params: GRUParams, x: Array, key: Keys = None) -> Array:
        return affine(x, params.w_x, params.b)

    def gates(self, params: GRUParams, state: GRUState, z: Array) -> GRUGates:
        """Returns the gates and the candidate of a step, given the state before it."""
        x_r, x_z, x_n = jnp.split(z, 3, axis=-1)
        h_r, h_z, h_n = jnp.split(state.h @ params.w_h, 3, axis=-1)
        r = self.gate_activation(x_r + h_r)
        n = self.activation(x_n + r * (h_n + align(params.b_n, h_n)))
        return GRUGates(r, self.gate_activation(x_z + h_z), n)

    def step(self, params: GRUParams, state: GRUState, z: Array) -> GRUState:
        _, update, n = self.gates(params, state, z)
        return GRUState(h=(1 - update) * n + update * state.h)

    def readout(self, params: GRUParams, state: GRUState, z: Array) -> Array:
        return state.h
