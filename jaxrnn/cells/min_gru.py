"""Minimal gated recurrent unit without recurrent weights (minGRU)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import jax.numpy as jnp
from jax import Array

from jaxrnn import _check as check
from jaxrnn.initializers import gates, glorot_uniform
from jaxrnn.layer import Keys, LinearCell
from jaxrnn.ops import affine, sigmoid, zeros


class MinGRUParams(NamedTuple):
    w_x: Array  # [input, 2 * hidden], in the order z, h
    b: Array  # [2 * hidden]


class MinGRUState(NamedTuple):
    h: Array  # [*batch, hidden]


@dataclass(frozen=True)
class MinGRU(LinearCell):
    r"""Gated recurrent unit without recurrent weights (minGRU).

    Neither the gate nor the candidate sees the state. The step is therefore linear in the state, and
    `jaxrnn.loops.AssociativeScan` can run all steps in parallel. `MinLSTM` is the LSTM of the same paper.

    .. math::
        z_t &= \sigma(W_z x_t + b_z) \\
        \tilde h_t &= W_h x_t + b_h \\
        h_t &= (1 - z_t) \odot h_{t-1} + z_t \odot \tilde h_t

    The output is :math:`h_t`.

    Example:
      >>> cell = jaxrnn.MinGRU(hidden_size=64)
      >>> params = cell.init(jax.random.key(0), input_size=8)
      >>> loop = jaxrnn.loops.AssociativeScan()  # all steps at once
      >>> state, ys = jaxrnn.unroll(cell, params, jnp.zeros((20, 32, 8)), loop=loop)  # [time, batch, input]
      >>> ys.shape
      (20, 32, 64)

    Args:
      hidden_size: Size of :math:`h`.

    References:
      L. Feng, F. Tung, M. Ahmed, Y. Bengio, H. Hajimirsadeghi, "Were RNNs all we needed?", 2024, in the form that does
      not use log space, where the candidate may have either sign.
    """

    hidden_size: int

    def __post_init__(self) -> None:
        check.positive(self, "hidden_size")

    def init(self, key: Array, input_size: int) -> MinGRUParams:
        n = self.hidden_size
        return MinGRUParams(gates(glorot_uniform, key, (input_size, n), 2), jnp.zeros(2 * n))

    def initial_state(self, params, batch_shape=(), dtype=None) -> MinGRUState:
        return MinGRUState(*zeros(params, batch_shape, dtype, self.hidden_size))

    def project(self, params: MinGRUParams, x: Array, key: Keys = None) -> Array:
        return affine(x, params.w_x, params.b)

    def coefficients(self, params: MinGRUParams, z: Array) -> tuple[MinGRUState, MinGRUState]:
        gate, candidate = jnp.split(z, 2, axis=-1)
        return MinGRUState(h=1 - sigmoid(gate)), MinGRUState(h=sigmoid(gate) * candidate)

    def readout(self, params: MinGRUParams, state: MinGRUState, z: Array) -> Array:
        return state.h
