"""The vanilla network with a gate of the same weights."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from jaxrnn.initializers import Chrono, gate_biases, glorot_uniform, orthogonal
from jaxrnn.layer import Cell, Keys
from jaxrnn.ops import affine, sigmoid, tanh, zeros


class FastGRNNParams(NamedTuple):
    w_x: Array  # [input, hidden], of the gate and the candidate
    w_h: Array  # [hidden, hidden], of both
    b: Array  # [2 * hidden], in the order z, a
    zeta: Array  # [], before its sigmoid
    nu: Array  # [], before its sigmoid


class FastGRNNState(NamedTuple):
    h: Array  # [*batch, hidden]


@dataclass(frozen=True)
class FastGRNN(Cell):
    r"""The vanilla network with a gate that has the weights of its candidate, and only a bias of its own.

    .. math::
        z_t &= \sigma(W x_t + R h_{t-1} + b_z) \\
        a_t &= \tanh(W x_t + R h_{t-1} + b_a) \\
        h_t &= (\sigma(\zeta) (1 - z_t) + \sigma(\nu)) \odot a_t + z_t \odot h_{t-1}

    The output is :math:`h_t`.

    Args:
      hidden_size: size of :math:`h`.
      update_bias: initial value of :math:`b_z`, a number or `Chrono(longest)`; above zero the state lasts longer.
      zeta: initial value of :math:`\zeta`.
      nu: initial value of :math:`\nu`.

    References: A. Kusupati et al., "FastGRNN: a fast, accurate, stable and tiny kilobyte sized gated recurrent
    neural network", 2018. Deviation: :math:`W` and :math:`R` are whole matrices,
    neither of low rank nor sparse nor quantized.
    """

    hidden_size: int
    update_bias: float | Chrono = 1.0
    zeta: float = 1.0
    nu: float = -4.0

    def init(self, key: Array, input_size: int) -> FastGRNNParams:
        n = self.hidden_size
        k_x, k_h, k_b = jax.random.split(key, 3)
        w_x, w_h = glorot_uniform(k_x, (input_size, n)), orthogonal(k_h, (n, n))
        b = jnp.concatenate([gate_biases(k_b, self.update_bias, n)[0], jnp.zeros(n)])
        return FastGRNNParams(w_x, w_h, b, jnp.full((), self.zeta), jnp.full((), self.nu))

    def initial_state(self, params, batch_shape=(), dtype=None) -> FastGRNNState:
        return FastGRNNState(*zeros(params, batch_shape, dtype, self.hidden_size))

    def project(self, params: FastGRNNParams, x: Array, key: Keys = None) -> Array:
        return affine(x, params.w_x)

    def step(self, params: FastGRNNParams, state: FastGRNNState, z: Array) -> FastGRNNState:
        b_z, b_a = jnp.split(params.b, 2)
        z = z + state.h @ params.w_h
        update, a = sigmoid(z + b_z), tanh(z + b_a)
        return FastGRNNState(h=(sigmoid(params.zeta) * (1 - update) + sigmoid(params.nu)) * a + update * state.h)

    def readout(self, params: FastGRNNParams, state: FastGRNNState, z: Array) -> Array:
        return state.h
