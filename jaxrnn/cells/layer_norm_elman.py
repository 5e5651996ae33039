"""The vanilla recurrent network with layer normalization."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from jaxrnn.initializers import glorot_uniform, orthogonal
from jaxrnn.layer import Cell, Keys
from jaxrnn.ops import affine, normalized, tanh, zeros


class LayerNormElmanParams(NamedTuple):
    w_x: Array  # [input, hidden]
    w_h: Array  # [hidden, hidden]
    gain: Array  # [hidden]
    b: Array  # [hidden]


class LayerNormElmanState(NamedTuple):
    h: Array  # [*batch, hidden]


@dataclass(frozen=True)
class LayerNormElman(Cell):
    r"""The vanilla recurrent network, its summed inputs normalized over the units of a step.

    .. math::
        a_t &= W x_t + R h_{t-1} \\
        \mu_t &= \frac{1}{n} \sum_i a_{t,i}, \quad \sigma_t^2 = \frac{1}{n} \sum_i (a_{t,i} - \mu_t)^2 \\
        h_t &= \phi\left(\frac{g}{\sqrt{\sigma_t^2 + \epsilon}} \odot (a_t - \mu_t) + b\right)

    The output is :math:`h_t`.

    Args:
      hidden_size: size of :math:`h`.
      activation: :math:`\phi`, elementwise, such as `jnp.tanh` or `jax.nn.relu`.
      epsilon: :math:`\epsilon`.

    References: J. Ba, J. Kiros, G. Hinton, "Layer normalization", 2016, equation 4. Deviation: :math:`\epsilon`.
    """

    hidden_size: int
    activation: Callable[[Array], Array] = tanh
    epsilon: float = 1e-5

    def init(self, key: Array, input_size: int) -> LayerNormElmanParams:
        n = self.hidden_size
        k_x, k_h = jax.random.split(key)
        w_x = glorot_uniform(k_x, (input_size, n))
        return LayerNormElmanParams(w_x, orthogonal(k_h, (n, n)), jnp.ones(n), jnp.zeros(n))

    def initial_state(self, params, batch_shape=(), dtype=None) -> LayerNormElmanState:
        return LayerNormElmanState(*zeros(params, batch_shape, dtype, self.hidden_size))

    def project(self, params: LayerNormElmanParams, x: Array, key: Keys = None) -> Array:
        return affine(x, params.w_x)

    def step(self, params: LayerNormElmanParams, state: LayerNormElmanState, z: Array) -> LayerNormElmanState:
        a = z + state.h @ params.w_h
        return LayerNormElmanState(h=self.activation(params.gain * normalized(a, self.epsilon) + params.b))

    def readout(self, params: LayerNormElmanParams, state: LayerNormElmanState, z: Array) -> Array:
        return state.h
