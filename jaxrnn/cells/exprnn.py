"""The exponential orthogonal recurrent network."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from jaxrnn.initializers import glorot_uniform, uniform
from jaxrnn.layer import Cell, Keys
from jaxrnn.ops import affine, mod_relu, zeros


class ExpRNNParams(NamedTuple):
    w_x: Array  # [input, hidden]
    a: Array  # [hidden, hidden], of which the part above the diagonal is read
    b: Array  # [hidden]


class ExpRNNState(NamedTuple):
    h: Array  # [*batch, hidden]


@dataclass(frozen=True)
class ExpRNN(Cell):
    r"""Exponential recurrent network: the recurrent matrix is a rotation, the exponential of a skew matrix.

    .. math::
        W &= \exp(A), \quad A^T = -A \\
        z_t &= W h_{t-1} + T x_t \\
        h_t &= \operatorname{relu}(|z_t| + b) \odot z_t / |z_t|

    The output is :math:`h_t`. At first :math:`A` turns pairs of units, by angles that are uniform on
    :math:`[-\pi, \pi)`.

    Args:
      hidden_size: size of :math:`h`.

    References: M. Lezcano-Casado, D. Martinez-Rubio, "Cheap orthogonal constraints in neural networks: a simple
    parametrization of the orthogonal and unitary group", 2019.
    """

    hidden_size: int

    def init(self, key: Array, input_size: int) -> ExpRNNParams:
        n = self.hidden_size
        k_x, k_a, k_b = jax.random.split(key, 3)
        first = 2 * jnp.arange(n // 2)
        a = jnp.zeros((n, n)).at[first, first + 1].set(uniform(jnp.pi)(k_a, (n // 2,)))
        return ExpRNNParams(glorot_uniform(k_x, (input_size, n)), a, uniform(0.01)(k_b, (n,)))

    def initial_state(self, params, batch_shape=(), dtype=None) -> ExpRNNState:
        return ExpRNNState(*zeros(params, batch_shape, dtype, self.hidden_size))

    def project(self, params: ExpRNNParams, x: Array, key: Keys = None) -> Array:
        return affine(x, params.w_x)

    def step(self, params: ExpRNNParams, state: ExpRNNState, z: Array) -> ExpRNNState:
        w = self.recurrent_matrix(params)
        return ExpRNNState(h=mod_relu(z + state.h @ w.T, params.b))

    def readout(self, params: ExpRNNParams, state: ExpRNNState, z: Array) -> Array:
        return state.h

    def recurrent_matrix(self, params: ExpRNNParams) -> Array:
        """:math:`W`, found in at least float32."""
        a = jnp.triu(params.a, 1).astype(jnp.promote_types(params.a.dtype, jnp.float32))
        return jax.scipy.linalg.expm(a - a.T).astype(params.a.dtype)
