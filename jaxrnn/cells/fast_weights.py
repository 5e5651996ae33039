"""Recurrent network with fast weights."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import KW_ONLY, dataclass
from typing import NamedTuple

import jax.numpy as jnp
from jax import Array
from jax.nn import relu

from jaxrnn import _check as check
from jaxrnn.initializers import glorot_uniform
from jaxrnn.layer import Cell, Keys
from jaxrnn.ops import affine, align, normalized, zeros


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

    The fast weights are a matrix in the state, so memory per sequence grows with the square of the hidden size.

    .. math::
        A_t &= \lambda A_{t-1} + \eta h_{t-1} h_{t-1}^T \\
        h_t^{(0)} &= \phi(W h_{t-1} + C x_t) \\
        h_t^{(s)} &= \phi(g \odot N(W h_{t-1} + C x_t + A_t h_t^{(s-1)}) + b), \quad s = 1, \ldots, S \\
        h_t &= h_t^{(S)}

    where :math:`N(a) = (a - \operatorname{mean}(a)) / \sqrt{\operatorname{var}(a) + \epsilon}`, over the units of one
    step. The output is :math:`h_t`. :math:`W` is initialized to the identity times 0.05.

    Example:
      >>> cell = jaxrnn.FastWeights(hidden_size=16)
      >>> params = cell.init(jax.random.key(0), input_size=8)
      >>> state, ys = jaxrnn.unroll(cell, params, jnp.zeros((20, 4, 8)))  # [time, batch, input]
      >>> ys.shape, state.a.shape
      ((20, 4, 16), (4, 16, 16))

    Args:
      hidden_size: Size of :math:`h`.
      decay_rate: :math:`\lambda`, the factor by which the fast weights decay at each step; from 0 to 1.
      learning_rate: :math:`\eta`, the learning rate of the fast weights.
      inner_steps: :math:`S`, the number of inner steps; at least 1.
      activation: :math:`\phi`, an elementwise function such as `jnp.tanh` or `jax.nn.relu`.
      epsilon: :math:`\epsilon`, added to the variance; above 0.

    References:
      J. Ba, G. Hinton, V. Mnih, J. Leibo, C. Ionescu, "Using fast weights to attend to the recent past", 2016.
    """

    hidden_size: int
    _: KW_ONLY
    decay_rate: float = 0.95
    learning_rate: float = 0.5
    inner_steps: int = 1
    activation: Callable[[Array], Array] = relu
    epsilon: float = 1e-5

    def __post_init__(self) -> None:
        check.positive(self, "hidden_size", "inner_steps")
        check.between(self, "decay_rate", 0, 1)
        check.finite(self, "learning_rate")
        check.function(self, "activation")
        check.above(self, "epsilon", 0)

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
        gain, b = align((params.gain, params.b), slow)
        h = self.activation(slow)
        for _ in range(self.inner_steps):
            fast = (a @ h[..., None])[..., 0]
            h = self.activation(gain * normalized(slow + fast, self.epsilon) + b)
        return FastWeightsState(h=h, a=a)

    def readout(self, params: FastWeightsParams, state: FastWeightsState, z: Array) -> Array:
        return state.h
