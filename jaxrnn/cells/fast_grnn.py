"""Vanilla recurrent network with a gate that shares its weights."""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from jaxrnn import _check as check
from jaxrnn.initializers import Chrono, gate_biases, glorot_uniform, orthogonal
from jaxrnn.layer import Cell, Keys
from jaxrnn.ops import affine, align, sigmoid, tanh, zeros


class FastGRNNParams(NamedTuple):
    w_x: Array  # [input, hidden], shared by the gate and the candidate
    w_h: Array  # [hidden, hidden], shared by both
    b: Array  # [2 * hidden], in the order z, a
    zeta: Array  # [], before the sigmoid
    nu: Array  # [], before the sigmoid


class FastGRNNState(NamedTuple):
    h: Array  # [*batch, hidden]


class FastGRNNGates(NamedTuple):
    z: Array  # [*batch, hidden], update gate
    a: Array  # candidate


@dataclass(frozen=True)
class FastGRNN(Cell):
    r"""FastGRNN: the vanilla network with a gate that shares the candidate's weights and adds only a bias.

    It is meant for small devices. `FastRNN` has no gate.

    .. math::
        z_t &= \sigma(W x_t + R h_{t-1} + b_z) \\
        a_t &= \tanh(W x_t + R h_{t-1} + b_a) \\
        h_t &= (\sigma(\zeta) (1 - z_t) + \sigma(\nu)) \odot a_t + z_t \odot h_{t-1}

    The output is :math:`h_t`.

    Example:
      >>> cell = jaxrnn.FastGRNN(hidden_size=32)
      >>> params = cell.init(jax.random.key(0), input_size=8)
      >>> jax.tree.map(jnp.shape, params)
      FastGRNNParams(w_x=(8, 32), w_h=(32, 32), b=(64,), zeta=(), nu=())
      >>> state, ys = jaxrnn.unroll(cell, params, jnp.zeros((20, 4, 8)))  # [time, batch, input]
      >>> ys.shape
      (20, 4, 32)

    Args:
      hidden_size: Size of :math:`h`.
      update_bias: Initial value of :math:`b_z`: a number, or `Chrono(longest)`. Above zero the state lasts longer.
      zeta: Initial value of :math:`\zeta`.
      nu: Initial value of :math:`\nu`.

    References:
      A. Kusupati et al., "FastGRNN: a fast, accurate, stable and tiny kilobyte sized gated recurrent neural network",
      2018.

    Deviations:
      :math:`W` and :math:`R` are full matrices: they are not of low rank, sparse or quantized.
    """

    hidden_size: int
    _: KW_ONLY
    update_bias: float | Chrono = 1.0
    zeta: float = 1.0
    nu: float = -4.0

    def __post_init__(self) -> None:
        check.positive(self, "hidden_size")
        check.gate_bias(self, "update_bias")
        check.finite(self, "zeta", "nu")

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

    def gates(self, params: FastGRNNParams, state: FastGRNNState, z: Array) -> FastGRNNGates:
        """Returns the gates and the candidate of a step, given the state before it."""
        b_z, b_a = align(jnp.split(params.b, 2), z)
        z = z + state.h @ params.w_h
        return FastGRNNGates(sigmoid(z + b_z), tanh(z + b_a))

    def step(self, params: FastGRNNParams, state: FastGRNNState, z: Array) -> FastGRNNState:
        update, a = self.gates(params, state, z)
        zeta, nu = align((sigmoid(params.zeta), sigmoid(params.nu)), z)
        return FastGRNNState(h=(zeta * (1 - update) + nu) * a + update * state.h)

    def readout(self, params: FastGRNNParams, state: FastGRNNState, z: Array) -> Array:
        return state.h
