"""Long short-term memory without recurrent weights (minLSTM)."""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass
from typing import NamedTuple

import jax.numpy as jnp
from jax import Array

from jaxrnn import _check as check
from jaxrnn.initializers import gates, glorot_uniform
from jaxrnn.layer import Keys, LinearCell
from jaxrnn.ops import affine, sigmoid, zeros


class MinLSTMParams(NamedTuple):
    w_x: Array  # [input, 3 * hidden], in the order f, i, h
    b: Array  # [3 * hidden]


class MinLSTMState(NamedTuple):
    h: Array  # [*batch, hidden]


@dataclass(frozen=True)
class MinLSTM(LinearCell):
    r"""Long short-term memory without recurrent weights (minLSTM).

    The forget and input gates do not see the state, and they are normalized to sum to one. There is no output gate and
    no separate memory cell. The step is linear in the state, and `jaxrnn.loops.AssociativeScan` can run all steps in
    parallel. `MinGRU` is the GRU of the same paper.

    .. math::
        f_t &= \sigma(W_f x_t + b_f), \quad i_t = \sigma(W_i x_t + b_i) \\
        \tilde h_t &= W_h x_t + b_h \\
        h_t &= \frac{f_t}{f_t + i_t} \odot h_{t-1} + \frac{i_t}{f_t + i_t} \odot \tilde h_t

    The output is :math:`h_t`.

    Example:
      >>> cell = jaxrnn.MinLSTM(hidden_size=64)
      >>> params = cell.init(jax.random.key(0), input_size=8)
      >>> loop = jaxrnn.loops.AssociativeScan()  # all steps at once
      >>> state, ys = jaxrnn.unroll(cell, params, jnp.zeros((20, 32, 8)), loop=loop)  # [time, batch, input]
      >>> ys.shape
      (20, 32, 64)

    Args:
      hidden_size: Size of :math:`h`.
      forget_bias: Initial value of :math:`b_f`.

    References:
      L. Feng, F. Tung, M. Ahmed, Y. Bengio, H. Hajimirsadeghi, "Were RNNs all we needed?", 2024, in the form that does
      not use log space, where the candidate may have either sign.
    """

    hidden_size: int
    _: KW_ONLY
    forget_bias: float = 1.0

    def __post_init__(self) -> None:
        check.positive(self, "hidden_size")
        check.finite(self, "forget_bias")

    def init(self, key: Array, input_size: int) -> MinLSTMParams:
        n = self.hidden_size
        b = jnp.zeros(3 * n).at[:n].set(self.forget_bias)
        return MinLSTMParams(gates(glorot_uniform, key, (input_size, n), 3), b)

    def initial_state(self, params, batch_shape=(), dtype=None) -> MinLSTMState:
        return MinLSTMState(*zeros(params, batch_shape, dtype, self.hidden_size))

    def project(self, params: MinLSTMParams, x: Array, key: Keys = None) -> Array:
        return affine(x, params.w_x, params.b)

    def coefficients(self, params: MinLSTMParams, z: Array) -> tuple[MinLSTMState, MinLSTMState]:
        f, i, candidate = jnp.split(z, 3, axis=-1)
        f, i = sigmoid(f), sigmoid(i)
        return MinLSTMState(h=f / (f + i)), MinLSTMState(h=i / (f + i) * candidate)

    def readout(self, params: MinLSTMParams, state: MinLSTMState, z: Array) -> Array:
        return state.h
