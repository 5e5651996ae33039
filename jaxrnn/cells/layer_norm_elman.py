"""Vanilla recurrent network with layer normalization."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import KW_ONLY, dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from jaxrnn import _check as check
from jaxrnn.initializers import glorot_uniform, orthogonal
from jaxrnn.layer import Cell, Keys
from jaxrnn.ops import affine, align, normalized, tanh, zeros


class LayerNormElmanParams(NamedTuple):
    w_x: Array  # [input, hidden]
    w_h: Array  # [hidden, hidden]
    gain: Array  # [hidden]
    b: Array  # [hidden]


class LayerNormElmanState(NamedTuple):
    h: Array  # [*batch, hidden]


@dataclass(frozen=True)
class LayerNormElman(Cell):
    r"""Vanilla recurrent network with layer normalization of its summed inputs.

    It is `Elman` with its summed inputs normalized by their mean and variance over the units, which do not depend on
    other steps or on the rest of the batch.

    .. math::
        a_t &= W x_t + R h_{t-1} \\
        \mu_t &= \frac{1}{n} \sum_i a_{t,i}, \quad \sigma_t^2 = \frac{1}{n} \sum_i (a_{t,i} - \mu_t)^2 \\
        h_t &= \phi\left(\frac{g}{\sqrt{\sigma_t^2 + \epsilon}} \odot (a_t - \mu_t) + b\right)

    The output is :math:`h_t`.

    Example:
      >>> cell = jaxrnn.LayerNormElman(hidden_size=64)
      >>> params = cell.init(jax.random.key(0), input_size=8)
      >>> state, ys = jaxrnn.unroll(cell, params, jnp.zeros((20, 4, 8)))  # [time, batch, input]
      >>> ys.shape
      (20, 4, 64)

    Args:
      hidden_size: Size of :math:`h`.
      activation: :math:`\phi`, an elementwise function such as `jnp.tanh` or `jax.nn.relu`.
      epsilon: :math:`\epsilon`, added to the variance.

    References:
      J. Ba, J. Kiros, G. Hinton, "Layer normalization", 2016, equation 4.

    Deviations:
      The paper's equation has no :math:`\epsilon`.
    """

    hidden_size: int
    _: KW_ONLY
    activation: Callable[[Array], Array] = tanh
    epsilon: float = 1e-5

    def __post_init__(self) -> None:
        check.positive(self, "hidden_size")
        check.function(self, "activation")
        check.non_negative(self, "epsilon")

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
        gain, b = align((params.gain, params.b), a)
        return LayerNormElmanState(h=self.activation(gain * normalized(a, self.epsilon) + b))

    def readout(self, params: LayerNormElmanParams, state: LayerNormElmanState, z: Array) -> Array:
        return state.h
