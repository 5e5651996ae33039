"""Linear attention with a decay that depends on the input."""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass
from typing import ClassVar, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array
from jax.nn import log_sigmoid

from jaxrnn import _check as check
from jaxrnn._matrix_cell import LinearMatrixCell, MatrixRead, MatrixUpdate
from jaxrnn.initializers import gates, glorot_uniform
from jaxrnn.layer import Keys
from jaxrnn.ops import affine, in_groups, side_by_side, zeros


class GatedLinearAttentionParams(NamedTuple):
    w_x: Array  # [input, 3 * hidden], in the order q, k, v; each has its heads side by side
    w_rank: Array  # [input, rank]
    w_alpha: Array  # [rank, hidden]
    b_alpha: Array  # [hidden]


class GatedLinearAttentionState(NamedTuple):
    s: Array  # [*batch, heads, hidden / heads (keys), hidden / heads (values)]


class GatedLinearAttentionInput(NamedTuple):
    q: Array  # [*batch, heads, hidden / heads], like all fields
    k: Array
    v: Array
    log_alpha: Array


@dataclass(frozen=True)
class GatedLinearAttention(LinearMatrixCell):
    r"""Gated linear attention: each key of the memory decays at its own rate, which depends on the input.

    `LinearAttention` never forgets, and the memory of `Retention` decays at a constant rate. In each head:

    .. math::
        q_t &= W_q x_t, \quad k_t = W_k x_t, \quad v_t = W_v x_t \\
        \alpha_t &= \sigma(W_\alpha W_r x_t + b_\alpha)^{1 / \tau} \\
        S_t &= \mathrm{diag}(\alpha_t) S_{t-1} + k_t v_t^\top \\
        y_t &= S_t^\top q_t

    The output is :math:`y_t` of all heads.

    Example:
      >>> cell = jaxrnn.GatedLinearAttention(hidden_size=16, num_heads=2)
      >>> params = cell.init(jax.random.key(0), input_size=8)
      >>> state, ys = jaxrnn.unroll(cell, params, jnp.zeros((20, 4, 8)))  # [time, batch, input]
      >>> ys.shape, state.s.shape  # one matrix for each head
      ((20, 4, 16), (4, 2, 8, 8))

    Args:
      hidden_size: Size of :math:`y`, and of the queries, keys and values of all heads together.
      num_heads: Number of memories, each with hidden_size / num_heads keys and as many values.
      rank_size: Rank of the product :math:`W_\alpha W_r`.
      temperature: :math:`\tau`. The larger it is, the longer the memory lasts.

    References:
      S. Yang, B. Wang, Y. Shen, R. Panda, Y. Kim, "Gated linear attention transformers with hardware-efficient
      training", 2024.

    Deviations:
      There are as many keys as values, while the paper has half as many keys. The block around the cell
      (normalization, output gate, projection) is left out.
    """

    hidden_size: int
    _: KW_ONLY
    num_heads: int = 1
    rank_size: int = 16
    temperature: float = 16.0
    state_type: ClassVar[type] = GatedLinearAttentionState

    def __post_init__(self) -> None:
        check.positive(self, "hidden_size", "rank_size")
        check.divides(self, "num_heads", "hidden_size")
        check.above(self, "temperature", 0)

    def init(self, key: Array, input_size: int) -> GatedLinearAttentionParams:
        n = self.hidden_size
        k_x, k_rank, k_alpha = jax.random.split(key, 3)
        w_rank = glorot_uniform(k_rank, (input_size, self.rank_size))
        w_alpha = glorot_uniform(k_alpha, (self.rank_size, n))
        return GatedLinearAttentionParams(gates(glorot_uniform, k_x, (input_size, n), 3), w_rank, w_alpha, jnp.zeros(n))

    def initial_state(self, params, batch_shape=(), dtype=None) -> GatedLinearAttentionState:
        d = self.hidden_size // self.num_heads
        return GatedLinearAttentionState(*zeros(params, (*batch_shape, self.num_heads, d), dtype, d))

    def project(self, params: GatedLinearAttentionParams, x: Array, key: Keys = None) -> GatedLinearAttentionInput:
        parts = jnp.split(affine(x, params.w_x), 3, axis=-1)
        logit = affine(affine(x, params.w_rank), params.w_alpha, params.b_alpha)
        parts.append(log_sigmoid(logit) / self.temperature)
        return GatedLinearAttentionInput(*(in_groups(part, self.num_heads) for part in parts))

    def update(self, params: GatedLinearAttentionParams, z: GatedLinearAttentionInput) -> MatrixUpdate:
        return MatrixUpdate(z.q, z.k, z.v, z.log_alpha)

    def output(self, params: GatedLinearAttentionParams, read: MatrixRead, z: GatedLinearAttentionInput) -> Array:
        return side_by_side(read.values)
