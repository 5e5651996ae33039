"""Retention, the recurrence of RetNet."""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass
from typing import ClassVar, NamedTuple

import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxrnn import _check as check
from jaxrnn._matrix_cell import LinearMatrixCell, MatrixRead, MatrixUpdate
from jaxrnn.initializers import gates, glorot_uniform
from jaxrnn.layer import Keys
from jaxrnn.ops import affine, align, complex_dtype, in_groups, joint_dtype, side_by_side, spread_like, to_complex


class RetentionParams(NamedTuple):
    w_x: Array  # [input, 3 * hidden], in the order q, k, v, each with its heads side by side


class RetentionState(NamedTuple):
    s: Array  # complex [*batch, heads, hidden / heads / 2 (keys), hidden / heads (values)]


class RetentionInput(NamedTuple):
    q: Array  # [*batch, heads, hidden / heads]
    k: Array  # [*batch, heads, hidden / heads]
    v: Array  # [*batch, heads, hidden / heads]


@dataclass(frozen=True)
class Retention(LinearMatrixCell):
    r"""Retention: linear attention whose memory decays at a fixed rate in each head and rotates.

    It equals attention with rotary positions and without a softmax, in which a value from step :math:`s` also has
    the factor :math:`\gamma_h^{t - s}`. The memory itself rotates by the distance :math:`t - s`, so the cell needs no
    step counter. `GatedLinearAttention` computes its decay from the input. In head :math:`h`, counted from 0:

    .. math::
        q_t &= W_q x_t, \quad k_t = W_k x_t, \quad v_t = W_v x_t, \quad
            \hat q_j = q_j + i q_{j + d/2}, \quad \hat k_j = k_j + i k_{j + d/2} \\
        S_t &= \gamma_h \, \mathrm{diag}(e^{i \theta}) S_{t-1} + \hat k_t^* v_t^\top,
            \quad \gamma_h = 1 - 2^{-5 - h}, \quad \theta_j = 10000^{-2 j / d} \\
        y_t &= \mathrm{Re}(S_t^\top \hat q_t)

    The output is :math:`y_t` of all heads, side by side.

    Example:
      >>> cell = jaxrnn.Retention(hidden_size=64, num_heads=4)
      >>> params = cell.init(jax.random.key(0), input_size=8)
      >>> state, ys = jaxrnn.unroll(cell, params, jnp.zeros((20, 32, 8)))  # [time, batch, input]
      >>> ys.shape, state.s.shape  # each head has a complex matrix of 8 keys and 16 values
      ((20, 32, 64), (32, 4, 8, 16))

    Args:
      hidden_size: Size of :math:`y`, and of the queries, keys and values of all heads together.
      num_heads: Number of memories, each of an even size :math:`d` = hidden_size / num_heads.

    References:
      Y. Sun et al., "Retentive network: a successor to transformer for large language models", 2023, section 2.1.

    Deviations:
      The rotated pairs are made of an entry of the first half of a vector and one of the second half, not of
      neighboring entries. The block around the cell (normalization by heads, gate, projection) is not included.
    """

    hidden_size: int
    _: KW_ONLY
    num_heads: int = 1
    state_type: ClassVar[type] = RetentionState

    def __post_init__(self) -> None:
        check.positive(self, "hidden_size")
        check.divides(self, "num_heads", "hidden_size")
        if self.hidden_size // self.num_heads % 2:
            raise ValueError(
                f"Retention's num_heads must be a divisor of its hidden_size, {self.hidden_size}, with an even "
                f"quotient, but it is {self.num_heads!r}"
            )

    def init(self, key: Array, input_size: int) -> RetentionParams:
        return RetentionParams(gates(glorot_uniform, key, (input_size, self.hidden_size), 3))

    def initial_state(self, params, batch_shape=(), dtype=None) -> RetentionState:
        dtype = complex_dtype(joint_dtype(params) if dtype is None else dtype)
        d = self.hidden_size // self.num_heads
        return RetentionState(spread_like(params, jnp.zeros((*batch_shape, self.num_heads, d // 2, d), dtype)))

    def project(self, params: RetentionParams, x: Array, key: Keys = None) -> RetentionInput:
        parts = jnp.split(affine(x, params.w_x), 3, axis=-1)
        return RetentionInput(*(in_groups(part, self.num_heads) for part in parts))

    def update(self, params: RetentionParams, z: RetentionInput) -> MatrixUpdate:
        d = self.hidden_size // self.num_heads
        log_gamma = np.log1p(-(2.0 ** (-5 - np.arange(self.num_heads))))[:, None]
        theta = np.broadcast_to(10000.0 ** (-2 * np.arange(d // 2) / d), (self.num_heads, d // 2))
        log_gamma, theta = (align(jnp.asarray(a, z.q.dtype), z.q) for a in (log_gamma, theta))
        return MatrixUpdate(_complex(z.q), _complex(z.k).conj(), z.v, log_gamma, theta)

    def output(self, params: RetentionParams, read: MatrixRead, z: RetentionInput) -> Array:
        return side_by_side(read.values)


def _complex(x: Array) -> Array:
    """Joins real parts, the first half of the last axis, and imaginary parts, the second half."""
    return to_complex(*jnp.split(x, 2, axis=-1))
