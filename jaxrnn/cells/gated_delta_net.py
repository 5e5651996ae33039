"""Linear attention with the delta rule and a forget gate."""

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


class GatedDeltaNetParams(NamedTuple):
    w_x: Array  # [input, 3 * hidden], in the order q, k, v, each with its heads side by side
    w_gates: Array  # [input, 2 * heads], in the order alpha, beta
    b_alpha: Array  # [heads]
    a: Array  # [heads], the logarithm of A


class GatedDeltaNetState(NamedTuple):
    s: Array  # [*batch, heads, hidden / heads (values), hidden / heads (keys)]


class GatedDeltaNetInput(NamedTuple):
    q: Array  # [*batch, heads, hidden / heads]
    k: Array  # [*batch, heads, hidden / heads]
    v: Array  # [*batch, heads, hidden / heads]
    log_alpha: Array  # [*batch, heads, 1]
    beta: Array  # [*batch, heads, 1]


@dataclass(frozen=True)
class GatedDeltaNet(MatrixCell):
    r"""Gated DeltaNet: the delta rule on a memory whose decay depends on the input.

    `DeltaNet` has no decay. In each head:

    .. math::
        q_t &= \frac{\mathrm{silu}(W_q x_t)}{|\mathrm{silu}(W_q x_t)|}, \quad
            k_t = \frac{\mathrm{silu}(W_k x_t)}{|\mathrm{silu}(W_k x_t)|}, \quad v_t = \mathrm{silu}(W_v x_t) \\
        \alpha_t &= \exp(-A \, \mathrm{softplus}(w_\alpha^\top x_t + b_\alpha)), \quad A = e^a, \quad
            \beta_t = \sigma(w_\beta^\top x_t) \\
        S_t &= \alpha_t S_{t-1} (I - \beta_t k_t k_t^\top) + \beta_t v_t k_t^\top \\
        y_t &= S_t q_t

    In the norms, :math:`10^{-6}` is added to the sum of squares. The output is :math:`y_t` of all heads. The recurrence
    is linear in the state, but with matrices as coefficients, so the cell is not a `LinearCell`.

    Example:
      >>> cell = jaxrnn.GatedDeltaNet(hidden_size=32, num_heads=2)
      >>> params = cell.init(jax.random.key(0), input_size=8)
      >>> state, ys = jaxrnn.unroll(cell, params, jnp.zeros((20, 4, 8)))  # [time, batch, input]
      >>> ys.shape, state.s.shape  # a matrix of values and keys for each head
      ((20, 4, 32), (4, 2, 16, 16))

    Args:
      hidden_size: Size of :math:`y`, and of the queries, the keys and the values of all heads together.
      num_heads: Number of memories, each for keys and values of size hidden_size / num_heads.

    References:
      S. Yang, J. Kautz, A. Hatamizadeh, "Gated delta networks: improving Mamba2 with delta rule", 2025.

    Deviations:
      The block around the cell (convolutions, output gate, normalization, projection) is left out.
    """

    hidden_size: int
    _: KW_ONLY
    num_heads: int = 1
    state_type: ClassVar[type] = GatedDeltaNetState
    values_first: ClassVar[bool] = True

    def __post_init__(self) -> None:
        check.positive(self, "hidden_size")
        check.divides(self, "num_heads", "hidden_size")

    def init(self, key: Array, input_size: int) -> GatedDeltaNetParams:
        heads = self.num_heads
        k_x, k_gates, k_a, k_step = jax.random.split(key, 4)
        w_x = gates(glorot_uniform, k_x, (input_size, self.hidden_size), 3)
        step = jnp.exp(jax.random.uniform(k_step, (heads,), minval=jnp.log(0.001), maxval=jnp.log(0.1)))
        a = jnp.log(jax.random.uniform(k_a, (heads,), minval=1.0, maxval=16.0))
        b_alpha = jnp.log(jnp.expm1(step))  # the inverse of softplus, so that softplus(b_alpha) is step
        return GatedDeltaNetParams(w_x, gates(glorot_uniform, k_gates, (input_size, heads), 2), b_alpha, a)

    def initial_state(self, params, batch_shape=(), dtype=None) -> GatedDeltaNetState:
        d = self.hidden_size // self.num_heads
        return GatedDeltaNetState(*zeros(params, (*batch_shape, self.num_heads, d), dtype, d))

    def project(self, params: GatedDeltaNetParams, x: Array, key: Keys = None) -> GatedDeltaNetInput:
        parts = jnp.split(silu(affine(x, params.w_x)), 3, axis=-1)
        q, k, v = (in_groups(part, self.num_heads) for part in parts)
        q, k = (a * jax.lax.rsqrt((a**2).sum(-1, keepdims=True) + EPSILON) for a in (q, k))
        alpha, beta = jnp.split(affine(x, params.w_gates), 2, axis=-1)
        log_alpha = -jnp.exp(align(params.a, alpha)) * softplus(alpha + align(params.b_alpha, alpha))
        return GatedDeltaNetInput(q, k, v, log_alpha[..., None], sigmoid(beta)[..., None])

    def update(self, params: GatedDeltaNetParams, z: GatedDeltaNetInput) -> MatrixUpdate:
        decayed = jnp.exp(z.log_alpha) * z.k
        return MatrixUpdate(z.q, z.beta * z.k, z.v, z.log_alpha, read=decayed)

    def output(self, params: GatedDeltaNetParams, read: MatrixRead, z: GatedDeltaNetInput) -> Array:
        return side_by_side(read.values)
