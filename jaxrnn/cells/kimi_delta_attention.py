"""Linear attention with the delta rule and a decay for each key."""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass
from typing import ClassVar, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array
from jax.nn import silu, softplus

from jaxrnn import _check as check
from jaxrnn._matrix_cell import MatrixCell, MatrixRead, MatrixUpdate
from jaxrnn.initializers import gates, glorot_uniform
from jaxrnn.layer import Keys
from jaxrnn.ops import affine, align, in_groups, side_by_side, sigmoid, zeros

EPSILON = 1e-6  # added to the squared norms, so that an input of zeros has keys of zeros


class KimiDeltaAttentionParams(NamedTuple):
    w_x: Array  # [input, 3 * hidden], in the order q, k, v, each with its heads side by side
    w_rank: Array  # [input, hidden / heads]
    w_alpha: Array  # [hidden / heads, hidden]
    b_alpha: Array  # [hidden]
    w_beta: Array  # [input, heads]
    a: Array  # [heads], the logarithm of A


class KimiDeltaAttentionState(NamedTuple):
    s: Array  # [*batch, heads, hidden / heads (keys), hidden / heads (values)]


class KimiDeltaAttentionInput(NamedTuple):
    q: Array  # [*batch, heads, hidden / heads]
    k: Array  # [*batch, heads, hidden / heads]
    v: Array  # [*batch, heads, hidden / heads]
    log_alpha: Array  # [*batch, heads, hidden / heads]
    beta: Array  # [*batch, heads, 1]


@dataclass(frozen=True)
class KimiDeltaAttention(MatrixCell):
    r"""Kimi delta attention: the delta rule on a memory in which each key decays at its own rate.

    `GatedDeltaNet` has one decay for all keys of a head, and `GatedLinearAttention` has one for each key, but no delta
    rule. In each head:

    .. math::
        q_t &= \frac{\mathrm{silu}(W_q x_t)}{|\mathrm{silu}(W_q x_t)|}, \quad
            k_t = \frac{\mathrm{silu}(W_k x_t)}{|\mathrm{silu}(W_k x_t)|}, \quad v_t = \mathrm{silu}(W_v x_t) \\
        \alpha_t &= \exp(-A \, \mathrm{softplus}(W_\alpha W_r x_t + b_\alpha)), \quad A = e^a, \quad
            \beta_t = \sigma(w_\beta^\top x_t) \\
        S_t &= (I - \beta_t k_t k_t^\top) \, \mathrm{diag}(\alpha_t) S_{t-1} + \beta_t k_t v_t^\top \\
        y_t &= S_t^\top q_t

    In the norms, :math:`10^{-6}` is added to the sum of squares. :math:`W_r x_t` has the size of a head, and is the
    same for all heads. The output is :math:`y_t` of all heads. The recurrence is linear in the state, but with matrices
    as coefficients, so the cell is not a `LinearCell`.

    Example:
      >>> cell = jaxrnn.KimiDeltaAttention(hidden_size=32, num_heads=2)
      >>> params = cell.init(jax.random.key(0), input_size=8)
      >>> state, ys = jaxrnn.unroll(cell, params, jnp.zeros((20, 4, 8)))  # [time, batch, input]
      >>> ys.shape, state.s.shape  # a matrix of keys and values for each head
      ((20, 4, 32), (4, 2, 16, 16))

    Args:
      hidden_size: Size of :math:`y`, and of the queries, the keys and the values of all heads together.
      num_heads: Number of memories, each for keys and values of size hidden_size / num_heads.

    References:
      Kimi Team, "Kimi linear: an expressive, efficient attention architecture", 2025, section 3, with the decay of
      `GatedDeltaNet`.

    Deviations:
      The block around the cell (convolutions, output gate, normalization, projection) is left out.
    """

    hidden_size: int
    _: KW_ONLY
    num_heads: int = 1
    state_type: ClassVar[type] = KimiDeltaAttentionState

    def __post_init__(self) -> None:
        check.positive(self, "hidden_size")
        check.divides(self, "num_heads", "hidden_size")

    def init(self, key: Array, input_size: int) -> KimiDeltaAttentionParams:
        n, heads = self.hidden_size, self.num_heads
        k_x, k_rank, k_alpha, k_beta, k_a, k_step = jax.random.split(key, 6)
        step = jnp.exp(jax.random.uniform(k_step, (n,), minval=jnp.log(0.001), maxval=jnp.log(0.1)))
        return KimiDeltaAttentionParams(
            w_x=gates(glorot_uniform, k_x, (input_size, n), 3),
            w_rank=glorot_uniform(k_rank, (input_size, n // heads)),
            w_alpha=glorot_uniform(k_alpha, (n // heads, n)),
            b_alpha=jnp.log(jnp.expm1(step)),  # softplus of the bias is the step
            w_beta=glorot_uniform(k_beta, (input_size, heads)),
            a=jnp.log(jax.random.uniform(k_a, (heads,), minval=1.0, maxval=16.0)),
        )

    def initial_state(self, params, batch_shape=(), dtype=None) -> KimiDeltaAttentionState:
        d = self.hidden_size // self.num_heads
        return KimiDeltaAttentionState(*zeros(params, (*batch_shape, self.num_heads, d), dtype, d))

    def project(self, params: KimiDeltaAttentionParams, x: Array, key: Keys = None) -> KimiDeltaAttentionInput:
        parts = jnp.split(silu(affine(x, params.w_x)), 3, axis=-1)
        q, k, v = (in_groups(part, self.num_heads) for part in parts)
        q, k = (a * jax.lax.rsqrt((a**2).sum(-1, keepdims=True) + EPSILON) for a in (q, k))
        alpha = in_groups(affine(affine(x, params.w_rank), params.w_alpha, params.b_alpha), self.num_heads)
        log_alpha = -jnp.exp(align(params.a[:, None], alpha)) * softplus(alpha)
        return KimiDeltaAttentionInput(q, k, v, log_alpha, sigmoid(affine(x, params.w_beta))[..., None])

    def update(self, params: KimiDeltaAttentionParams, z: KimiDeltaAttentionInput) -> MatrixUpdate:
        decayed = jnp.exp(z.log_alpha) * z.k
        return MatrixUpdate(z.q, z.beta * z.k, z.v, z.log_alpha, read=decayed)

    def output(self, params: KimiDeltaAttentionParams, read: MatrixRead, z: KimiDeltaAttentionInput) -> Array:
        return side_by_side(read.values)
