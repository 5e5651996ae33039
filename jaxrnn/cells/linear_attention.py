"""Attention without a softmax, as a recurrent cell with a matrix state."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from jaxrnn import _check as check
from jaxrnn._matrix_cell import LinearMatrixCell, MatrixRead, MatrixUpdate
from jaxrnn.initializers import glorot_uniform
from jaxrnn.layer import Keys
from jaxrnn.ops import affine, joint_dtype, spread_like

EPSILON = 1e-6  # as in the paper's code; avoids 0 / 0 before the first step


class LinearAttentionParams(NamedTuple):
    w_q: Array  # [input, key]
    w_k: Array  # [input, key]
    w_v: Array  # [input, value]


class LinearAttentionState(NamedTuple):
    s: Array  # [*batch, key, value]
    n: Array  # [*batch, key]


class LinearAttentionInput(NamedTuple):
    q: Array  # [*batch, key], positive
    k: Array  # [*batch, key], positive
    v: Array  # [*batch, value]


@dataclass(frozen=True)
class LinearAttention(LinearMatrixCell):
    r"""Linear attention: values are added to a matrix under the keys they belong to, and read by a query.

    Attention without a softmax needs a state of constant size, while that of softmax attention grows with the sequence.
    The state never decays; `GatedLinearAttention` adds a decay.

    .. math::
        q_t, k_t &= \phi(W_q x_t), \phi(W_k x_t), \quad v_t = W_v x_t, \quad \phi(a) = \mathrm{elu}(a) + 1 \\
        S_t &= S_{t-1} + k_t v_t^\top, \quad n_t = n_{t-1} + k_t \\
        y_t &= \frac{S_t^\top q_t}{n_t^\top q_t + 10^{-6}}

    The output is :math:`y_t`.

    Example:
      >>> cell = jaxrnn.LinearAttention(key_size=8, value_size=16)
      >>> params = cell.init(jax.random.key(0), input_size=8)
      >>> state, ys = jaxrnn.unroll(cell, params, jnp.zeros((20, 4, 8)))  # [time, batch, input]
      >>> ys.shape, state.s.shape
      ((20, 4, 16), (4, 8, 16))

    Args:
      key_size: Size of :math:`q` and :math:`k`.
      value_size: Size of :math:`v` and :math:`y`.

    References:
      A. Katharopoulos, A. Vyas, N. Pappas, F. Fleuret, "Transformers are RNNs: fast autoregressive transformers with
      linear attention", 2020, with one head.
    """

    key_size: int
    value_size: int
    state_type: ClassVar[type] = LinearAttentionState
    has_normalizer: ClassVar[bool] = True

    def __post_init__(self) -> None:
        check.positive(self, "key_size", "value_size")

    def init(self, key: Array, input_size: int) -> LinearAttentionParams:
        keys = jax.random.split(key, 3)
        sizes = self.key_size, self.key_size, self.value_size
        return LinearAttentionParams(*(glorot_uniform(k, (input_size, n)) for k, n in zip(keys, sizes, strict=True)))

    def initial_state(self, params, batch_shape=(), dtype=None) -> LinearAttentionState:
        dtype = joint_dtype(params) if dtype is None else dtype
        s = jnp.zeros((*batch_shape, self.key_size, self.value_size), dtype)
        n = jnp.zeros((*batch_shape, self.key_size), dtype)
        return spread_like(params, LinearAttentionState(s, n))

    def project(self, params: LinearAttentionParams, x: Array, key: Keys = None) -> LinearAttentionInput:
        q, k = (jax.nn.elu(affine(x, w)) + 1 for w in (params.w_q, params.w_k))
        return LinearAttentionInput(q, k, affine(x, params.w_v))

    def update(self, params: LinearAttentionParams, z: LinearAttentionInput) -> MatrixUpdate:
        return MatrixUpdate(z.q, z.k, z.v)

    def output(self, params: LinearAttentionParams, read: MatrixRead, z: LinearAttentionInput) -> Array:
        return read.values / (read.normalizer + EPSILON)[..., None]
