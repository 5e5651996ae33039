"""Selective state space model of Mamba."""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from jaxrnn import _check as check
from jaxrnn.initializers import glorot_uniform
from jaxrnn.layer import Keys, LinearCell
from jaxrnn.ops import affine, align, as_features, joint_dtype, spread_like


class SelectiveSSMParams(NamedTuple):
    w_delta: Array  # [input, rank]
    w_rank: Array  # [rank, input]
    b_delta: Array  # [input]
    w_b: Array  # [input, state]
    w_c: Array  # [input, state]
    a: Array  # [input, state], logarithms of -A
    d: Array  # [input]


class SelectiveSSMState(NamedTuple):
    h: Array  # [*batch, input, state]


class SelectiveSSMInput(NamedTuple):
    delta: Array  # [*batch, input]
    b: Array  # [*batch, state]
    c: Array  # [*batch, state]
    x: Array  # [*batch, input]


@dataclass(frozen=True)
class SelectiveSSM(LinearCell):
    r"""Selective state space model (S6), the recurrence of Mamba, with a separate state for each input feature.

    The step size and the maps into and out of the state depend on the input, but not on the state, so all steps can run
    in parallel with `jaxrnn.loops.AssociativeScan`. The output has the size of the input. The cell uses its input
    without multiplying it by a matrix, so symbols become one-hot vectors; an `Embedding` before it is cheaper.

    .. math::
        \Delta_t &= \mathrm{softplus}(W_r W_\Delta x_t + b_\Delta), \quad B_t = W_B x_t, \quad C_t = W_C x_t \\
        h_t &= \exp(\Delta_t A) \odot h_{t-1} + (\Delta_t \odot x_t) B_t^\top, \quad A = -e^{a} \\
        y_t &= h_t C_t + d \odot x_t

    The output is :math:`y_t`.

    Example:
      >>> cell = jaxrnn.SelectiveSSM(state_size=16)
      >>> params = cell.init(jax.random.key(0), input_size=8)
      >>> xs = jnp.zeros((20, 32, 8))  # [time, batch, input]
      >>> state, ys = jaxrnn.unroll(cell, params, xs, loop=jaxrnn.loops.AssociativeScan())
      >>> ys.shape, state.h.shape
      ((20, 32, 8), (32, 8, 16))

    Args:
      state_size: Size of the state of each input feature.
      rank_size: Rank of :math:`W_r W_\Delta`, the size between the two matrices.

    References:
      A. Gu, T. Dao, "Mamba: linear-time sequence modeling with selective state spaces", 2023, section 3.

    Deviations:
      The block around it (convolution, gate, projections) is not included.
    """

    state_size: int
    _: KW_ONLY
    rank_size: int = 1

    def __post_init__(self) -> None:
        check.positive(self, "state_size", "rank_size")

    def init(self, key: Array, input_size: int) -> SelectiveSSMParams:
        n = self.state_size
        k_delta, k_rank, k_b, k_c, k_step = jax.random.split(key, 5)
        step = jnp.exp(jax.random.uniform(k_step, (input_size,), minval=jnp.log(0.001), maxval=jnp.log(0.1)))
        return SelectiveSSMParams(
            w_delta=glorot_uniform(k_delta, (input_size, self.rank_size)),
            w_rank=glorot_uniform(k_rank, (self.rank_size, input_size)),
            b_delta=jnp.log(jnp.expm1(step)),  # softplus of the bias is the step
            w_b=glorot_uniform(k_b, (input_size, n)),
            w_c=glorot_uniform(k_c, (input_size, n)),
            a=jnp.broadcast_to(jnp.log(jnp.arange(1.0, n + 1)), (input_size, n)),
            d=jnp.ones(input_size),
        )

    def initial_state(self, params, batch_shape=(), dtype=None) -> SelectiveSSMState:
        dtype = joint_dtype(params) if dtype is None else dtype
        return SelectiveSSMState(spread_like(params, jnp.zeros((*batch_shape, *params.a.shape), dtype)))

    def project(self, params: SelectiveSSMParams, x: Array, key: Keys = None) -> SelectiveSSMInput:
        delta = jax.nn.softplus(affine(affine(x, params.w_delta), params.w_rank, params.b_delta))
        x_itself = as_features(x, params.d.shape[0], params.d.dtype)
        return SelectiveSSMInput(delta, affine(x, params.w_b), affine(x, params.w_c), x_itself)

    def coefficients(
        self, params: SelectiveSSMParams, z: SelectiveSSMInput
    ) -> tuple[SelectiveSSMState, SelectiveSSMState]:
        delta = z.delta[..., None]
        a = jnp.exp(-delta * jnp.exp(align(params.a, delta)))
        return SelectiveSSMState(h=a), SelectiveSSMState(h=(z.delta * z.x)[..., None] * z.b[..., None, :])

    def readout(self, params: SelectiveSSMParams, state: SelectiveSSMState, z: SelectiveSSMInput) -> Array:
        return (state.h * z.c[..., None, :]).sum(-1) + align(params.d, z.x) * z.x
