"""Minimal recurrent network."""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from jaxrnn import _check as check
from jaxrnn.initializers import Chrono, gate_biases, glorot_uniform, orthogonal
from jaxrnn.layer import Cell, Keys
from jaxrnn.ops import affine, sigmoid, tanh, zeros


class MinimalRNNParams(NamedTuple):
    w_x: Array  # [input, hidden], for the latent input z
    b_x: Array  # [hidden]
    w_z: Array  # [hidden, hidden], from z to the gate u
    w_h: Array  # [hidden, hidden], from the state to the gate u
    b: Array  # [hidden], for the gate u


class MinimalRNNState(NamedTuple):
    h: Array  # [*batch, hidden]


class MinimalRNNGates(NamedTuple):
    u: Array  # [*batch, hidden], update gate
    z: Array  # latent input


@dataclass(frozen=True)
class MinimalRNN(Cell):
    r"""Minimal recurrent network: one gate between the state and a latent input.

    The new state is an elementwise weighted mean of the last state and a latent representation of the input, so that
    both are in the same space. The state is multiplied by a matrix only in the gate.

    .. math::
        z_t &= \tanh(W x_t + b_x) \\
        u_t &= \sigma(R h_{t-1} + U z_t + b) \\
        h_t &= u_t \odot h_{t-1} + (1 - u_t) \odot z_t

    The output is :math:`h_t`.

    Example:
      >>> cell = jaxrnn.MinimalRNN(hidden_size=64)
      >>> params = cell.init(jax.random.key(0), input_size=8)
      >>> state, ys = jaxrnn.unroll(cell, params, jnp.zeros((20, 32, 8)))  # [time, batch, input]
      >>> ys.shape
      (20, 32, 64)

    Args:
      hidden_size: Size of :math:`h` and :math:`z`.
      update_bias: Initial value of :math:`b`: a number, or `Chrono(longest)`. Above zero the state lasts longer.

    References:
      M. Chen, "MinimalRNN: toward more interpretable and trainable recurrent neural networks", 2017, with the input
      network of the paper's example, a single layer.
    """

    hidden_size: int
    _: KW_ONLY
    update_bias: float | Chrono = 0.0

    def __post_init__(self) -> None:
        check.positive(self, "hidden_size")
        check.gate_bias(self, "update_bias")

    def init(self, key: Array, input_size: int) -> MinimalRNNParams:
        n = self.hidden_size
        k_x, k_z, k_h, k_b = jax.random.split(key, 4)
        w_x = glorot_uniform(k_x, (input_size, n))
        w_z = glorot_uniform(k_z, (n, n))
        b, _ = gate_biases(k_b, self.update_bias, n)
        return MinimalRNNParams(w_x, jnp.zeros(n), w_z, orthogonal(k_h, (n, n)), b)

    def initial_state(self, params, batch_shape=(), dtype=None) -> MinimalRNNState:
        return MinimalRNNState(*zeros(params, batch_shape, dtype, self.hidden_size))

    def project(self, params: MinimalRNNParams, x: Array, key: Keys = None) -> Array:
        latent = tanh(affine(x, params.w_x, params.b_x))
        return jnp.concatenate([affine(latent, params.w_z, params.b), latent], axis=-1)

    def gates(self, params: MinimalRNNParams, state: MinimalRNNState, z: Array) -> MinimalRNNGates:
        """Returns the gates and the candidate of a step, given the state before it."""
        z_u, latent = jnp.split(z, 2, axis=-1)
        return MinimalRNNGates(sigmoid(z_u + state.h @ params.w_h), latent)

    def step(self, params: MinimalRNNParams, state: MinimalRNNState, z: Array) -> MinimalRNNState:
        u, latent = self.gates(params, state, z)
        return MinimalRNNState(h=u * state.h + (1 - u) * latent)

    def readout(self, params: MinimalRNNParams, state: MinimalRNNState, z: Array) -> Array:
        return state.h
