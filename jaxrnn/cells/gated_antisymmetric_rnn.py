"""Antisymmetric recurrent network with a gate."""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from jaxrnn import _check as check
from jaxrnn.initializers import gates, glorot_uniform
from jaxrnn.layer import Cell, Keys
from jaxrnn.ops import affine, sigmoid, tanh, zeros


class GatedAntisymmetricRNNParams(NamedTuple):
    w_x: Array  # [input, 2 * hidden], gates in the order z, h
    w_h: Array  # [hidden, hidden], the transpose of W
    b: Array  # [2 * hidden]


class GatedAntisymmetricRNNState(NamedTuple):
    h: Array  # [*batch, hidden]


@dataclass(frozen=True)
class GatedAntisymmetricRNN(Cell):
    r"""Antisymmetric recurrent network with a gate that uses the same antisymmetric matrix.

    `AntisymmetricRNN` has no gate.

    .. math::
        a_t &= (W - W^T - \gamma I) h_{t-1} \\
        z_t &= \sigma(a_t + V_z x_t + b_z) \\
        h_t &= h_{t-1} + \epsilon z_t \odot \tanh(a_t + V_h x_t + b_h)

    The output is :math:`h_t`. The entries of :math:`W` are initialized from a normal distribution whose variance is 1
    divided by the hidden size.

    Example:
      >>> cell = jaxrnn.GatedAntisymmetricRNN(hidden_size=32, epsilon=0.05)
      >>> params = cell.init(jax.random.key(0), input_size=8)
      >>> state, ys = jaxrnn.unroll(cell, params, jnp.zeros((20, 4, 8)))  # [time, batch, input]
      >>> ys.shape
      (20, 4, 32)

    Args:
      hidden_size: Size of :math:`h`.
      epsilon: :math:`\epsilon`, the step size of Euler's method; above 0.
      gamma: :math:`\gamma`, the diffusion, which makes Euler's method stable; at least 0.

    References:
      B. Chang, M. Chen, E. Haber, E. Chi, "AntisymmetricRNN: a dynamical system view on recurrent neural networks",
      2019, equations 16 and 17.
    """

    hidden_size: int
    _: KW_ONLY
    epsilon: float = 0.1
    gamma: float = 0.01

    def __post_init__(self) -> None:
        check.positive(self, "hidden_size")
        check.above(self, "epsilon", 0)
        check.non_negative(self, "gamma")

    def init(self, key: Array, input_size: int) -> GatedAntisymmetricRNNParams:
        n = self.hidden_size
        k_x, k_h = jax.random.split(key)
        w_h = jax.random.normal(k_h, (n, n)) / jnp.sqrt(n)
        return GatedAntisymmetricRNNParams(gates(glorot_uniform, k_x, (input_size, n), 2), w_h, jnp.zeros(2 * n))

    def initial_state(self, params, batch_shape=(), dtype=None) -> GatedAntisymmetricRNNState:
        return GatedAntisymmetricRNNState(*zeros(params, batch_shape, dtype, self.hidden_size))

    def project(self, params: GatedAntisymmetricRNNParams, x: Array, key: Keys = None) -> Array:
        return affine(x, params.w_x, params.b)

    def step(
        self, params: GatedAntisymmetricRNNParams, state: GatedAntisymmetricRNNState, z: Array
    ) -> GatedAntisymmetricRNNState:
        x_z, x_h = jnp.split(z, 2, axis=-1)
        a = state.h @ (params.w_h - params.w_h.T) - self.gamma * state.h
        return GatedAntisymmetricRNNState(h=state.h + self.epsilon * sigmoid(a + x_z) * tanh(a + x_h))

    def readout(self, params: GatedAntisymmetricRNNParams, state: GatedAntisymmetricRNNState, z: Array) -> Array:
        return state.h
