"""Linear attention with the delta rule."""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass
from typing import ClassVar, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array
from jax.nn import silu

from jaxrnn import _check as check
from jaxrnn._matrix_cell import MatrixCell, MatrixRead, MatrixUpdate
from jaxrnn.initializers import gates, glorot_uniform
from jaxrnn.layer import Keys
from jaxrnn.ops import affine, in_groups, side_by_side, sigmoid, zeros

EPSILON = 1e-6  # added to the squared norms, so that an input of zeros has keys of zeros


class DeltaNetParams(NamedTuple):
    w_x: Array  # [input, 3 * hidden], in the order q, k, v, each with its heads side by side
    w_beta: Array  # [input, heads]


class DeltaNetState(NamedTuple):
    s: Array  # [*batch, heads, hidden / heads (values), hidden / heads (keys)]


class DeltaNetInput(NamedTuple):
    q: Array  # [*batch, heads, hidden / heads]
    k: Array  # [*batch, heads, hidden / heads]
    v: Array  # [*batch, heads, hidden / heads]
    beta: Array  # [*batch, heads, 1]


@dataclass(frozen=True)
class DeltaNet(MatrixCell):
    r"""DeltaNet: a linear attention that moves the value stored under a key towards the new value.

    `LinearAttention` adds the new value to the old one, and `GatedDeltaNet` also lets the memory decay. In each head:

    .. math::
        q_t &= \frac{\mathrm{silu}(W_q x_t)}{|\mathrm{silu}(W_q x_t)|}, \quad
            k_t = \frac{\mathrm{silu}(W_k x_t)}{|\mathrm{silu}(W_k x_t)|}, \quad v_t = W_v x_t \\
        \beta_t &= \sigma(w_\beta^\top x_t) \\
        S_t &= S_{t-1} + \beta_t (v_t - S_{t-1} k_t) k_t^\top \\
        y_t &= S_t q_t

    In the norms, :math:`10^{-6}` is added to the sum of squares. The output is :math:`y_t` of all heads. The recurrence
    is linear in the state, but with matrices as coefficients, so the cell is not a `LinearCell`.

    Example:
      >>> cell = jaxrnn.DeltaNet(hidden_size=32, num_heads=2)
      >>> params = cell.init(jax.random.key(0), input_size=8)
      >>> state, ys = jaxrnn.unroll(cell, params, jnp.zeros((20, 4, 8)))  # [time, batch, input]
      >>> ys.shape, state.s.shape  # a matrix of values and keys for each head
      ((20, 4, 32), (4, 2, 16, 16))

    Args:
      hidden_size: Size of :math:`y`, and of the queries, the keys and the values of all heads together.
      num_heads: Number of memories, each for keys and values of size hidden_size / num_heads.

    References:
      I. Schlag, K. Irie, J. Schmidhuber, "Linear transformers are secretly fast weight programmers", 2021; S. Yang et
      al., "Parallelizing linear transformers with the delta rule over sequence length", 2024, for the feature map and
      the normalization.

    Deviations:
      The block around the cell (convolution, normalization, projection) is left out.
    """

    hidden_size: int
    _: KW_ONLY
    num_heads: int = 1
    state_type: ClassVar[type] = DeltaNetState
    values_first: ClassVar[bool] = True

    def __post_init__(self) -> None:
        check.positive(self, "hidden_size")
        check.divides(self, "num_heads", "hidden_size")

    def init(self, key: Array, input_size: int) -> DeltaNetParams:
        k_x, k_beta = jax.random.split(key)
        w_x = gates(glorot_uniform, k_x, (input_size, self.hidden_size), 3)
        return DeltaNetParams(w_x, glorot_uniform(k_beta, (input_size, self.num_heads)))

    def initial_state(self, params, batch_shape=(), dtype=None) -> DeltaNetState:
        d = self.hidden_size // self.num_heads
        return DeltaNetState(*zeros(params, (*batch_shape, self.num_heads, d), dtype, d))

    def project(self, params: DeltaNetParams, x: Array, key: Keys = None) -> DeltaNetInput:
        parts = jnp.split(affine(x, params.w_x), 3, axis=-1)
        q, k, v = (in_groups(part, self.num_heads) for part in parts)
        q, k = (a * jax.lax.rsqrt((a**2).sum(-1, keepdims=True) + EPSILON) for a in (silu(q), silu(k)))
        return DeltaNetInput(q, k, v, sigmoid(affine(x, params.w_beta))[..., None])

    def update(self, params: DeltaNetParams, z: DeltaNetInput) -> MatrixUpdate:
        return MatrixUpdate(z.q, z.beta * z.k, z.v, read=z.k)

    def output(self, params: DeltaNetParams, read: MatrixRead, z: DeltaNetInput) -> Array:
        return side_by_side(read.values)
