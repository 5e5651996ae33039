"""The gated recurrent unit made for parallel training, ParaGRU."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from jaxrnn.initializers import gates, glorot_uniform
from jaxrnn.layer import Cell, Keys
from jaxrnn.ops import affine, sigmoid, tanh, zeros


class ParaGRUParams(NamedTuple):
    w_x: Array  # [input, 3 * hidden], gates in the order z, r, c
    w_h: Array  # [3, hidden], the diagonals of A
    b: Array  # [3 * hidden]


class ParaGRUState(NamedTuple):
    h: Array  # [*batch, hidden]


@dataclass(frozen=True)
class ParaGRU(Cell):
    r"""ParaGRU: a gated recurrent unit whose recurrent matrices are diagonal, so that its Jacobian is.

    .. math::
        z_t &= \sigma(a_z \odot h_{t-1} + B_z x_t + b_z) \\
        r_t &= \sigma(a_r \odot h_{t-1} + B_r x_t + b_r) \\
        c_t &= \tanh(a_c \odot (h_{t-1} \odot r_t) + B_c x_t + b_c) \\
        h_t &= (1 - z_t) \odot h_{t-1} + z_t \odot c_t

    The output is :math:`h_t`.

    Args:
      hidden_size: size of :math:`h`.

    References: F. Danieli, P. Rodriguez, M. Sarabia, X. Suau, L. Zappella, "ParaRNN: unlocking parallel training of
    nonlinear RNNs for large language models", 2025; the law of the diagonals is that of its published code. Deviations:
    one matrix B for all inputs, where its heads have blocks; the biases begin at zero.
    """

    hidden_size: int

    def init(self, key: Array, input_size: int) -> ParaGRUParams:
        n = self.hidden_size
        k_x, k_h = jax.random.split(key)
        w_h = 2 / jnp.sqrt(5 * n) * jax.random.normal(k_h, (3, n))
        return ParaGRUParams(gates(glorot_uniform, k_x, (input_size, n), 3), w_h, jnp.zeros(3 * n))

    def initial_state(self, params, batch_shape=(), dtype=None) -> ParaGRUState:
        return ParaGRUState(*zeros(params, batch_shape, dtype, self.hidden_size))

    def project(self, params: ParaGRUParams, x: Array, key: Keys = None) -> Array:
        return affine(x, params.w_x, params.b)

    def step(self, params: ParaGRUParams, state: ParaGRUState, z: Array) -> ParaGRUState:
        a_z, a_r, a_c = params.w_h
        x_z, x_r, x_c = jnp.split(z, 3, axis=-1)
        z = sigmoid(a_z * state.h + x_z)
        r = sigmoid(a_r * state.h + x_r)
        c = tanh(a_c * (state.h * r) + x_c)
        return ParaGRUState(h=(1 - z) * state.h + z * c)

    def readout(self, params: ParaGRUParams, state: ParaGRUState, z: Array) -> Array:
        return state.h
