"""Scaled Cayley orthogonal recurrent network."""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from jaxrnn import _check as check
from jaxrnn.initializers import glorot_uniform, uniform
from jaxrnn.layer import Cell, Keys
from jaxrnn.ops import affine, mod_relu, zeros


class ScoRNNParams(NamedTuple):
    w_x: Array  # [input, hidden]
    a: Array  # [hidden, hidden]; only the part above the diagonal is used
    b: Array  # [hidden]


class ScoRNNState(NamedTuple):
    h: Array  # [*batch, hidden]


@dataclass(frozen=True)
class ScoRNN(Cell):
    r"""Scaled Cayley orthogonal recurrent network: the recurrent matrix is orthogonal for all parameter values.

    The recurrent matrix preserves the norm of the state, so products of it over many steps neither grow nor vanish.
    `ExpRNN` builds such a matrix with the matrix exponential instead.

    .. math::
        W &= (I + A)^{-1} (I - A) D, \quad A^T = -A \\
        z_t &= W h_{t-1} + U x_t \\
        h_t &= \operatorname{relu}(|z_t| + b) \odot z_t / |z_t|

    where :math:`D` is diagonal: the first `negatives` entries are -1, the others 1. The output is :math:`h_t`.
    Initially, :math:`(I + A)^{-1} (I - A)` rotates pairs of units, by angles that are uniform on
    :math:`[0, \pi / 2)`.

    Example:
      >>> cell = jaxrnn.ScoRNN(hidden_size=64, negatives=16)
      >>> params = cell.init(jax.random.key(0), input_size=8)
      >>> state, ys = jaxrnn.unroll(cell, params, jnp.zeros((20, 32, 8)))  # [time, batch, input]
      >>> ys.shape
      (20, 32, 64)
      >>> w = cell.recurrent_matrix(params)
      >>> bool(jnp.allclose(w @ w.T, jnp.eye(64), atol=1e-4))
      True

    Args:
      hidden_size: Size of :math:`h`.
      negatives: Number of entries of :math:`D` that are -1.

    References:
      K. Helfrich, D. Willmott, Q. Ye, "Orthogonal recurrent neural networks with scaled Cayley transform", 2018.
    """

    hidden_size: int
    _: KW_ONLY
    negatives: int = 0

    def __post_init__(self) -> None:
        check.positive(self, "hidden_size")
        check.at_least(self, "negatives", 0)
        if self.negatives > self.hidden_size:
            raise ValueError(f"ScoRNN's negatives must be from 0 to {self.hidden_size}, but it is {self.negatives!r}")

    def init(self, key: Array, input_size: int) -> ScoRNNParams:
        n = self.hidden_size
        k_x, k_a, k_b = jax.random.split(key, 3)
        angle = jax.random.uniform(k_a, (n // 2,), maxval=jnp.pi / 2)
        first = 2 * jnp.arange(n // 2)
        a = jnp.zeros((n, n)).at[first, first + 1].set(jnp.sqrt((1 - jnp.cos(angle)) / (1 + jnp.cos(angle))))
        return ScoRNNParams(glorot_uniform(k_x, (input_size, n)), a, uniform(0.01)(k_b, (n,)))

    def initial_state(self, params, batch_shape=(), dtype=None) -> ScoRNNState:
        return ScoRNNState(*zeros(params, batch_shape, dtype, self.hidden_size))

    def project(self, params: ScoRNNParams, x: Array, key: Keys = None) -> Array:
        return affine(x, params.w_x)

    def step(self, params: ScoRNNParams, state: ScoRNNState, z: Array) -> ScoRNNState:
        w = self.recurrent_matrix(params)
        return ScoRNNState(h=mod_relu(z + state.h @ w.T, params.b))

    def readout(self, params: ScoRNNParams, state: ScoRNNState, z: Array) -> Array:
        return state.h

    def recurrent_matrix(self, params: ScoRNNParams) -> Array:
        """Returns :math:`W`, computed in at least float32."""
        n = self.hidden_size
        a = jnp.triu(params.a, 1).astype(jnp.promote_types(params.a.dtype, jnp.float32))
        identity = jnp.eye(n, dtype=a.dtype)
        d = jnp.where(jnp.arange(n) < self.negatives, -1, 1).astype(a.dtype)
        w = jnp.linalg.solve(identity + a - a.T, identity - a + a.T) * d[None]
        return w.astype(params.a.dtype)
