"""The recurrent network with fast weights."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import jax.numpy as jnp
from jax import Array
from jax.nn import relu

from jaxrnn.initializers import glorot_uniform
from jaxrnn.layer import Cell, Keys
from jaxrnn.ops import affine, normalized, zeros


class FastWeightsParams(NamedTuple):
    w_x: Array  # [input, hidden]
    w_h: Array  # [hidden, hidden]
    gain: Array  # [hidden]
    b: Array  # [hidden]


class FastWeightsState(NamedTuple):
    h: Array  # [*batch, hidden]
    a: Array  # [*batch, hidden, hidden]


@dataclass(frozen=True)
class FastWeights(Cell):
    r"""Vanilla network with fast weights, an associative memory of its recent states.

    .. math::
        A_t &= \lambda A_{t-1} + \eta h_{t-1} h_{t-1}^T \\
        h_t^{(0)} &= \phi(W h_{t-1} + C x_t) \\
        h_t^{(s)} &= \phi(g \odot N(W h_{t-1} + C x_t + A_t h_t^{(s-1)}) + b), \quad s = 1, \ldots, S \\
        h_t &= h_t^{(S)}

    where :math:`N(a) = (a - \operatorname{mean}(a)) / \sqrt{\operatorname{var}(a) + \epsilon}`, over the units of a
    step. The output is :math:`h_t`. At first :math:`W` is the identity times 0.05.

    Args:
      hidden_size: size of :math:`h`.
      decay_rate: :math:`\lambda`, how much of the fast weights stays at each step.
      learning_rate: :math:`\eta`, how fast they learn.
      inner_steps: :math:`S`, a positive integer.
      activation: :math:`\phi`, elementwise.
      epsilon: :math:`\epsilon`.

    References: J. Ba, G. Hinton, V. Mnih, J. Leibo, C. Ionescu, "Using fast weights to attend to the recent past",
    2016.
    """

    hidden_size: int
    decay_rate: float = 0.95
    learning_rate: float = 0.5
    inner_steps: int = 1
    activation: Callable[[Array], Array] = relu
    epsilon: float = 1e-5

    def init(self, key: Array, input_size: int) -> FastWeightsParams:
        n = self.hidden_size
        return FastWeightsParams(glorot_uniform(key, (input_size, n)), 0.05 * jnp.eye(n), jnp.ones(n), jnp.zeros(n))

    def initial_state(self, params, batch_shape=(), dtype=None) -> FastWeightsState:
        n = self.hidden_size
        h, a = zeros(params, batch_shape, dtype, n, n * n)
        return FastWeightsState(h, a.reshape(*batch_shape, n, n))

    def project(self, params: FastWeightsParams, x: Array, key: Keys = None) -> Array:
        return affine(x, params.w_x)

    def step(self, params: FastWeightsParams, state: FastWeightsState, z: Array) -> FastWeightsState:
        a = self.decay_rate * state.a + self.learning_rate * state.h[..., :, None] * state.h[..., None, :]
        slow = state.h @ params.w_h + z
        h = self.activation(slow)
        for _ in range(self.inner_steps):
            fast = (a @ h[..., None])[..., 0]
            h = self.activation(params.gain * normalized(slow + fast, self.epsilon) + params.b)
        return FastWeightsState(h=h, a=a)

    def readout(self, params: FastWeightsParams, state: FastWeightsState, z: Array) -> Array:
        return state.h
