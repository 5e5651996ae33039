"""State space model of Mamba-2."""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass
from typing import ClassVar, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array
from jax.nn import silu, softplus

from jaxrnn import _check as check
from jaxrnn._matrix_cell import LinearMatrixCell, MatrixRead, MatrixUpdate
from jaxrnn.initializers import gates, glorot_uniform
from jaxrnn.layer import Keys
from jaxrnn.ops import affine, align, in_groups, side_by_side, zeros


class Mamba2Params(NamedTuple):
    w_x: Array  # [input, hidden], with the heads side by side
    w_bc: Array  # [input, 2 * groups * state], in the order B, C, each with its groups side by side
    w_delta: Array  # [input, heads]
    b_delta: Array  # [heads]
    a: Array  # [heads], the logarithm of -A
    d: Array  # [heads]


class Mamba2State(NamedTuple):
    h: Array  # [*batch, heads, hidden / heads, state]


class Mamba2Input(NamedTuple):
    x: Array  # [*batch, heads, hidden / heads]
    b: Array  # [*batch, heads, state]
    c: Array  # [*batch, heads, state]
    delta: Array  # [*batch, heads, 1]
    log_decay: Array  # [*batch, heads, 1]


@dataclass(frozen=True)
class Mamba2(LinearMatrixCell):
    r"""State space model of Mamba-2 (SSD), whose state decays at the same rate in all entries of a head.

    `SelectiveSSM` has a decay for each entry of the state. With a single decay, the steps of a chunk become products of
    matrices (`jaxrnn.loops.Chunked`), as in linear attention, of which :math:`C_t`, :math:`B_t` and :math:`x_t` are the
    queries, the keys and the values. From the input :math:`u_t`, in each head:

    .. math::
        x_t &= \mathrm{silu}(W_x u_t), \quad B_t = \mathrm{silu}(W_B u_t), \quad C_t = \mathrm{silu}(W_C u_t) \\
        \Delta_t &= \mathrm{softplus}(w_\Delta^\top u_t + b_\Delta), \quad A = -e^a \\
        h_t &= \exp(\Delta_t A) h_{t-1} + \Delta_t x_t B_t^\top \\
        y_t &= h_t C_t + d x_t

    The heads of a group have the same :math:`B_t` and :math:`C_t`. The output is :math:`y_t` of all heads.

    Example:
      >>> cell = jaxrnn.Mamba2(hidden_size=64, state_size=16, num_heads=4)
      >>> params = cell.init(jax.random.key(0), input_size=8)
      >>> state, ys = jaxrnn.unroll(cell, params, jnp.zeros((20, 32, 8)))  # [time, batch, input]
      >>> ys.shape, state.h.shape  # a matrix for each head
      ((20, 32, 64), (32, 4, 16, 16))

    Args:
      hidden_size: Size of :math:`x` and :math:`y` of all heads together.
      state_size: Size of :math:`B` and :math:`C`.
      num_heads: Number of heads, each of size hidden_size / num_heads.
      num_groups: Number of groups of heads.

    References:
      T. Dao, A. Gu, "Transformers are SSMs: generalized models and efficient algorithms through structured state space
      duality", 2024, section 7.

    Deviations:
      The block around the cell (convolution, gate, normalization, projection) is left out.
    """

    hidden_size: int
    state_size: int
    _: KW_ONLY
    num_heads: int = 1
    num_groups: int = 1
    state_type: ClassVar[type] = Mamba2State
    values_first: ClassVar[bool] = True

    def __post_init__(self) -> None:
        check.positive(self, "hidden_size", "state_size")
        check.divides(self, "num_heads", "hidden_size")
        check.divides(self, "num_groups", "num_heads")

    def init(self, key: Array, input_size: int) -> Mamba2Params:
        heads = self.num_heads
        k_x, k_bc, k_delta, k_a, k_step = jax.random.split(key, 5)
        step = jnp.exp(jax.random.uniform(k_step, (heads,), minval=jnp.log(0.001), maxval=jnp.log(0.1)))
        return Mamba2Params(
            w_x=glorot_uniform(k_x, (input_size, self.hidden_size)),
            w_bc=gates(glorot_uniform, k_bc, (input_size, self.num_groups * self.state_size), 2),
            w_delta=glorot_uniform(k_delta, (input_size, heads)),
            b_delta=jnp.log(jnp.expm1(step)),  # softplus of the bias is the step
            a=jnp.log(jax.random.uniform(k_a, (heads,), minval=1.0, maxval=16.0)),
            d=jnp.ones(heads),
        )

    def initial_state(self, params, batch_shape=(), dtype=None) -> Mamba2State:
        shape = (*batch_shape, self.num_heads, self.hidden_size // self.num_heads)
        return Mamba2State(*zeros(params, shape, dtype, self.state_size))

    def project(self, params: Mamba2Params, x: Array, key: Keys = None) -> Mamba2Input:
        delta = softplus(affine(x, params.w_delta, params.b_delta))
        log_decay = -jnp.exp(align(params.a, delta)) * delta
        b, c = (self._of_heads(part) for part in jnp.split(silu(affine(x, params.w_bc)), 2, axis=-1))
        x = in_groups(silu(affine(x, params.w_x)), self.num_heads)
        return Mamba2Input(x, b, c, delta[..., None], log_decay[..., None])

    def _of_heads(self, x: Array) -> Array:
        """Turns vectors of all groups, side by side, into one for each head."""
        return jnp.repeat(in_groups(x, self.num_groups), self.num_heads // self.num_groups, axis=-2)

    def update(self, params: Mamba2Params, z: Mamba2Input) -> MatrixUpdate:
        return MatrixUpdate(z.c, z.delta * z.b, z.x, z.log_decay)

    def output(self, params: Mamba2Params, read: MatrixRead, z: Mamba2Input) -> Array:
        return side_by_side(read.values + align(params.d[:, None], z.x) * z.x)
