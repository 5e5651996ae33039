"""Scalar memory of xLSTM, with exponential gates."""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array
from jax.nn import log_sigmoid

from jaxrnn import _check as check
from jaxrnn.initializers import Chrono, gate_biases, gates, glorot_uniform, orthogonal
from jaxrnn.layer import Cell, Keys
from jaxrnn.ops import affine, in_groups, side_by_side, sigmoid, tanh, zeros


class SLSTMParams(NamedTuple):
    w_x: Array  # [input, 4 * hidden], gates in the order i, f, z, o
    w_h: Array  # [heads, hidden / heads, 4 * hidden / heads], the gates of each head in the order i, f, z, o
    b: Array  # [4 * hidden]


class SLSTMState(NamedTuple):
    h: Array  # [*batch, hidden]
    c: Array  # [*batch, hidden], the memory divided by exp(m)
    n: Array  # [*batch, hidden], the normalizer divided by exp(m)
    m: Array  # [*batch, hidden], the stabilizer


class SLSTMGates(NamedTuple):
    i: Array  # [*batch, hidden], input gate
    f: Array  # forget gate
    z: Array  # candidate
    o: Array  # output gate
    m: Array  # stabilizer, the logarithm by which i and f are divided


@dataclass(frozen=True)
class SLSTM(Cell):
    r"""xLSTM's memory of scalars (sLSTM): exponential input gates, a normalizer, and states mixed within heads.

    Its gates read the previous output, so the steps must run one after another. `MLSTM` is xLSTM's memory of matrices,
    whose gates read the input alone.

    .. math::
        \tilde i_t &= W_i x_t + R_i h_{t-1} + b_i, \quad \tilde f_t = W_f x_t + R_f h_{t-1} + b_f \\
        z_t &= \tanh(W_z x_t + R_z h_{t-1} + b_z), \quad o_t = \sigma(W_o x_t + R_o h_{t-1} + b_o) \\
        m_t &= \max(\log \sigma(\tilde f_t) + m_{t-1}, \tilde i_t) \\
        i_t &= \exp(\tilde i_t - m_t), \quad f_t = \exp(\log \sigma(\tilde f_t) + m_{t-1} - m_t) \\
        c_t &= f_t \odot c_{t-1} + i_t \odot z_t, \quad n_t = f_t \odot n_{t-1} + i_t \\
        h_t &= o_t \odot c_t / n_t

    The matrices :math:`R` are block-diagonal, with one block per head. Where :math:`n_{t-1} = 0` there is no past, and
    :math:`m_{t-1}` counts as :math:`-\infty`. The output is :math:`h_t`.

    Example:
      >>> cell = jaxrnn.SLSTM(hidden_size=64, num_heads=4)
      >>> params = cell.init(jax.random.key(0), input_size=8)
      >>> state, ys = jaxrnn.unroll(cell, params, jnp.zeros((20, 32, 8)))  # [time, batch, input]
      >>> ys.shape, params.w_h.shape  # a block per head, for four gates
      ((20, 32, 64), (4, 16, 64))

    Args:
      hidden_size: Size of each of the state's arrays.
      num_heads: Number of blocks of each :math:`R`; divides the hidden size.
      forget_bias: Initial value of :math:`b_f`: a number, or `Chrono(longest)`, which also sets :math:`b_i`.

    References:
      M. Beck et al., "xLSTM: extended long short-term memory", 2024, appendix A.2, with the sigmoid as forget gate.

    Deviations:
      The block around the cell (convolution, normalization by heads, projections) is not included.
    """

    hidden_size: int
    _: KW_ONLY
    num_heads: int = 1
    forget_bias: float | Chrono = 1.0

    def __post_init__(self) -> None:
        check.positive(self, "hidden_size")
        check.divides(self, "num_heads", "hidden_size")
        check.gate_bias(self, "forget_bias")

    def init(self, key: Array, input_size: int) -> SLSTMParams:
        n = self.hidden_size
        size = n // self.num_heads
        k_x, k_h, k_b = jax.random.split(key, 3)
        w_x = gates(glorot_uniform, k_x, (input_size, n), 4)
        w_h = jnp.stack([gates(orthogonal, k, (size, size), 4) for k in jax.random.split(k_h, self.num_heads)])
        b_f, b_i = gate_biases(k_b, self.forget_bias, n)
        return SLSTMParams(w_x, w_h, jnp.concatenate([b_i, b_f, jnp.zeros(2 * n)]))

    def initial_state(self, params, batch_shape=(), dtype=None) -> SLSTMState:
        return SLSTMState(*zeros(params, batch_shape, dtype, *[self.hidden_size] * 4))

    def project(self, params: SLSTMParams, x: Array, key: Keys = None) -> Array:
        return affine(x, params.w_x, params.b)

    def gates(self, params: SLSTMParams, state: SLSTMState, z: Array) -> SLSTMGates:
        """Returns the gates and the candidate of a step, given the state before it."""
        mixed = jnp.einsum("...ha,hab->...hb", in_groups(state.h, self.num_heads), params.w_h)
        mixed = [side_by_side(part) for part in jnp.split(mixed, 4, axis=-1)]
        i, f, z, o = (x + h for x, h in zip(jnp.split(z, 4, axis=-1), mixed, strict=True))
        past = jnp.where(state.n == 0, -jnp.inf, log_sigmoid(f) + state.m)
        m = jnp.maximum(past, i)
        return SLSTMGates(jnp.exp(i - m), jnp.exp(past - m), tanh(z), sigmoid(o), m)

    def step(self, params: SLSTMParams, state: SLSTMState, z: Array) -> SLSTMState:
        i, f, candidate, o, m = self.gates(params, state, z)
        c = f * state.c + i * candidate
        n = f * state.n + i
        return SLSTMState(h=o * c / n, c=c, n=n, m=m)

    def comparable(self, one: SLSTMState, other: SLSTMState) -> tuple[SLSTMState, SLSTMState]:
        m = jnp.where(one.n == 0, other.m, jnp.where(other.n == 0, one.m, jnp.maximum(one.m, other.m)))

        def rescale(state: SLSTMState) -> SLSTMState:
            scale = jnp.exp(jnp.where(state.n == 0, 0, state.m - m))
            return SLSTMState(h=state.h, c=scale * state.c, n=scale * state.n, m=m)

        return rescale(one), rescale(other)

    def readout(self, params: SLSTMParams, state: SLSTMState, z: Array) -> Array:
        return state.h
