"""Stackable recurrent cell."""

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


class STARParams(NamedTuple):
    w_x: Array  # [input, 2 * hidden], in the order k, z
    w_h: Array  # [hidden, hidden], for the gate
    b: Array  # [2 * hidden]


class STARState(NamedTuple):
    h: Array  # [*batch, hidden]


class STARGates(NamedTuple):
    k: Array  # [*batch, hidden], gate
    z: Array  # latent input


@dataclass(frozen=True)
class STAR(Cell):
    r"""Stackable recurrent cell (STAR): one gate, designed so that gradients keep their magnitude through many layers.

    Only the gate has a recurrent matrix; the candidate depends on the input alone.

    .. math::
        k_t &= \sigma(W_k x_t + R_k h_{t-1} + b_k) \\
        z_t &= \tanh(W_z x_t + b_z) \\
        h_t &= \tanh((1 - k_t) \odot h_{t-1} + k_t \odot z_t)

    The output is :math:`h_t`.

    Example:
      >>> cell = jaxrnn.STAR(hidden_size=64)
      >>> params = cell.init(jax.random.key(0), input_size=8)
      >>> state, ys = jaxrnn.unroll(cell, params, jnp.zeros((20, 32, 8)))  # [time, batch, input]
      >>> ys.shape, params.w_h.shape
      ((20, 32, 64), (64, 64))

    Args:
      hidden_size: Size of :math:`h`.
      keep_bias: Initial value of :math:`-b_k`: a number, or `Chrono(longest)`. Above zero the state lasts longer.

    References:
      M. Turkoglu, S. D'Aronco, J. Wegner, K. Schindler, "Gating revisited: deep multi-layer RNNs that can be trained",
      2021.
    """

    hidden_size: int
    _: KW_ONLY
    keep_bias: float | Chrono = 0.0

    def __post_init__(self) -> None:
        check.positive(self, "hidden_size")
        check.gate_bias(self, "keep_bias")

    def init(self, key: Array, input_size: int) -> STARParams:
        n = self.hidden_size
        k_x, k_h, k_b = jax.random.split(key, 3)
        w_x = gates(glorot_uniform, k_x, (input_size, n), 2)
        b_keep, _ = gate_biases(k_b, self.keep_bias, n)
        return STARParams(w_x, orthogonal(k_h, (n, n)), jnp.concatenate([-b_keep, jnp.zeros(n)]))

    def initial_state(self, params, batch_shape=(), dtype=None) -> STARState:
        return STARState(*zeros(params, batch_shape, dtype, self.hidden_size))

    def project(self, params: STARParams, x: Array, key: Keys = None) -> Array:
        x_k, x_z = jnp.split(affine(x, params.w_x, params.b), 2, axis=-1)
        return jnp.concatenate([x_k, tanh(x_z)], axis=-1)

    def gates(self, params: STARParams, state: STARState, z: Array) -> STARGates:
        """Returns the gates and the candidate of a step, given the state before it."""
        x_k, latent = jnp.split(z, 2, axis=-1)
        return STARGates(sigmoid(x_k + state.h @ params.w_h), latent)

    def step(self, params: STARParams, state: STARState, z: Array) -> STARState:
        k, latent = self.gates(params, state, z)
        return STARState(h=tanh((1 - k) * state.h + k * latent))

    def readout(self, params: STARParams, state: STARState, z: Array) -> Array:
        return state.h
