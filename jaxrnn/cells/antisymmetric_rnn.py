"""Antisymmetric recurrent network."""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from jaxrnn import _check as check
from jaxrnn.initializers import glorot_uniform
from jaxrnn.layer import Cell, Keys
from jaxrnn.ops import affine, tanh, zeros


class AntisymmetricRNNParams(NamedTuple):
    w_x: Array  # [input, hidden]
    w_h: Array  # [hidden, hidden], the transpose of W
    b: Array  # [hidden]


class AntisymmetricRNNState(NamedTuple):
    h: Array  # [*batch, hidden]


@dataclass(frozen=True)
class AntisymmetricRNN(Cell):
    r"""Antisymmetric recurrent network: Euler's method for an equation that neither explodes nor forgets.

    All eigenvalues of the recurrent matrix :math:`W - W^T - \gamma I` have the real part :math:`-\gamma`, so for a
    small :math:`\gamma` the state can carry information over long times. `GatedAntisymmetricRNN` adds a gate.

    .. math:: h_t = h_{t-1} + \epsilon \tanh((W - W^T - \gamma I) h_{t-1} + V x_t + b)

    The output is :math:`h_t`. The entries of :math:`W` are initialized from a normal distribution whose variance is 1
    divided by the hidden size.

    Example:
      >>> cell = jaxrnn.AntisymmetricRNN(hidden_size=32, epsilon=0.05)
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
      2019.
    """

    hidden_size: int
    _: KW_ONLY
    epsilon: float = 0.1
    gamma: float = 0.01

    def __post_init__(self) -> None:
        check.positive(self, "hidden_size")
        check.above(self, "epsilon", 0)
        check.non_negative(self, "gamma")

    def init(self, key: Array, input_size: int) -> AntisymmetricRNNParams:
        n = self.hidden_size
        k_x, k_h = jax.random.split(key)
        w_h = jax.random.normal(k_h, (n, n)) / jnp.sqrt(n)
        return AntisymmetricRNNParams(glorot_uniform(k_x, (input_size, n)), w_h, jnp.zeros(n))

    def initial_state(self, params, batch_shape=(), dtype=None) -> AntisymmetricRNNState:
        return AntisymmetricRNNState(*zeros(params, batch_shape, dtype, self.hidden_size))

    def project(self, params: AntisymmetricRNNParams, x: Array, key: Keys = None) -> Array:
        return affine(x, params.w_x, params.b)

    def step(self, params: AntisymmetricRNNParams, state: AntisymmetricRNNState, z: Array) -> AntisymmetricRNNState:
        a = state.h @ (params.w_h - params.w_h.T) - self.gamma * state.h + z
        return AntisymmetricRNNState(h=state.h + self.epsilon * tanh(a))

    def readout(self, params: AntisymmetricRNNParams, state: AntisymmetricRNNState, z: Array) -> Array:
        return state.h
