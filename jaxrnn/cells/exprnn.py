"""Exponential orthogonal recurrent network."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from jaxrnn import _check as check
from jaxrnn.initializers import glorot_uniform, uniform
from jaxrnn.layer import Cell, Keys
from jaxrnn.ops import affine, mod_relu, zeros


class ExpRNNParams(NamedTuple):
    w_x: Array  # [input, hidden]
    a: Array  # [hidden, hidden], of which only the part above the diagonal is used
    b: Array  # [hidden]


class ExpRNNState(NamedTuple):
    h: Array  # [*batch, hidden]


@dataclass(frozen=True)
class ExpRNN(Cell):
    r"""Exponential recurrent network, whose recurrent matrix is a rotation, the exponential of a skew-symmetric one.

    An orthogonal matrix preserves the norm of the state, which helps on long sequences. `ScoRNN` obtains its orthogonal
    matrix by a Cayley transform.

    .. math::
        W &= \exp(A), \quad A^T = -A \\
        z_t &= W h_{t-1} + T x_t \\
        h_t &= \operatorname{relu}(|z_t| + b) \odot z_t / |z_t|

    The output is :math:`h_t`. :math:`A` is initialized so that :math:`W` rotates pairs of units, by angles drawn
    uniformly from :math:`[-\pi, \pi)`.

    Example:
      >>> cell = jaxrnn.ExpRNN(hidden_size=16)
      >>> params = cell.init(jax.random.key(0), input_size=8)
      >>> w = cell.recurrent_matrix(params)
      >>> bool(jnp.allclose(w @ w.T, jnp.eye(16), atol=1e-5))
      True
      >>> state, ys = jaxrnn.unroll(cell, params, jnp.zeros((20, 4, 8)))  # [time, batch, input]
      >>> ys.shape
      (20, 4, 16)

    Args:
      hidden_size: Size of :math:`h`.

    References:
      M. Lezcano-Casado, D. Martinez-Rubio, "Cheap orthogonal constraints in neural networks: a simple parametrization
      of the orthogonal and unitary group", 2019.
    """

    hidden_size: int

    def __post_init__(self) -> None:
        check.positive(self, "hidden_size")

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
        """Returns :math:`W`, computed in at least float32."""
        a = jnp.triu(params.a, 1).astype(jnp.promote_types(params.a.dtype, jnp.float32))
        return jax.scipy.linalg.expm(a - a.T).astype(params.a.dtype)
