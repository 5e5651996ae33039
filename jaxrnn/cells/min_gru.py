"""The minimal gated recurrent unit without recurrent weights, minGRU."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import jax.numpy as jnp
from jax import Array

from jaxrnn.initializers import gates, glorot_uniform
from jaxrnn.layer import Keys, LinearCell
from jaxrnn.ops import affine, sigmoid, zeros


class MinGRUParams(NamedTuple):
    w_x: Array  # [input, 2 * hidden], gates in the order z, h
    b: Array  # [2 * hidden]


class MinGRUState(NamedTuple):
    h: Array  # [*batch, hidden]


@dataclass(frozen=True)
class MinGRU(LinearCell):
    r"""minGRU: a GRU whose gate and candidate do not see the state.

    .. math::
        z_t &= \sigma(W_z x_t + b_z) \\
        \tilde h_t &= W_h x_t + b_h \\
        h_t &= (1 - z_t) \odot h_{t-1} + z_t \odot \tilde h_t

    The output is :math:`h_t`.

    Args:
      hidden_size: size of :math:`h`.

    References: L. Feng, F. Tung, M. Ahmed, Y. Bengio, H. Hajimirsadeghi, "Were RNNs all we needed?", 2024, in the form
    that is not in log space, where the candidate may have any sign.
    """

    hidden_size: int

    def init(self, key: Array, input_size: int) -> MinGRUParams:
        return MinGRUParams(
            gates(glorot_uniform, key, (input_size, self.hidden_size), 2), jnp.zeros(2 * self.hidden_size)
        )

    def initial_state(self, params, batch_shape=(), dtype=None) -> MinGRUState:
        return MinGRUState(*zeros(params, batch_shape, dtype, self.hidden_size))

    def project(self, params: MinGRUParams, x: Array, key: Keys = None) -> Array:
        return affine(x, params.w_x, params.b)

    def coefficients(self, params: MinGRUParams, z: Array) -> tuple[MinGRUState, MinGRUState]:
        gate, candidate = jnp.split(z, 2, axis=-1)
        return MinGRUState(h=1 - sigmoid(gate)), MinGRUState(h=sigmoid(gate) * candidate)

    def readout(self, params: MinGRUParams, state: MinGRUState, z: Array) -> Array:
        return state.h
