"""The recurrent highway network."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from jaxrnn.initializers import gates, glorot_uniform, orthogonal
from jaxrnn.layer import Cell, Keys
from jaxrnn.ops import affine, sigmoid, tanh, zeros


class RecurrentHighwayNetworkParams(NamedTuple):
    w_x: Array  # [input, 2 * hidden], in the order h, t
    w_h: tuple[Array, ...]  # of each layer [hidden, 2 * hidden]
    b: tuple[Array, ...]  # of each layer [2 * hidden]


class RecurrentHighwayNetworkState(NamedTuple):
    h: Array  # [*batch, hidden]


@dataclass(frozen=True)
class RecurrentHighwayNetwork(Cell):
    r"""Recurrent highway network (RHN): a step through several highway layers, the first of which reads the input.

    .. math::
        s^0_t &= h_{t-1} \\
        a^l_t &= \tanh(W_a x_t [l = 1] + R^l_a s^{l-1}_t + b^l_a) \\
        g^l_t &= \sigma(W_g x_t [l = 1] + R^l_g s^{l-1}_t + b^l_g) \\
        s^l_t &= g^l_t \odot a^l_t + (1 - g^l_t) \odot s^{l-1}_t, \quad l = 1, \dots, L \\
        h_t &= s^L_t

    The output is :math:`h_t`.

    Args:
      hidden_size: size of :math:`h`.
      depth_size: :math:`L`, the number of layers of a step.
      transform_bias: initial value of each :math:`b^l_g`; below zero the state lasts longer.

    References: J. Zilly, R. Srivastava, J. Koutnik, J. Schmidhuber, "Recurrent highway networks", 2017, with the
    carry gate coupled to the transform gate, as in the paper's experiments.
    """

    hidden_size: int
    depth_size: int = 3
    transform_bias: float = -2.0

    def init(self, key: Array, input_size: int) -> RecurrentHighwayNetworkParams:
        n = self.hidden_size
        k_x, k_h = jax.random.split(key)
        w_x = gates(glorot_uniform, k_x, (input_size, n), 2)
        w_h = tuple(gates(orthogonal, k, (n, n), 2) for k in jax.random.split(k_h, self.depth_size))
        b = tuple(jnp.concatenate([jnp.zeros(n), jnp.full(n, self.transform_bias)]) for _ in w_h)
        return RecurrentHighwayNetworkParams(w_x, w_h, b)

    def initial_state(self, params, batch_shape=(), dtype=None) -> RecurrentHighwayNetworkState:
        return RecurrentHighwayNetworkState(*zeros(params, batch_shape, dtype, self.hidden_size))

    def project(self, params: RecurrentHighwayNetworkParams, x: Array, key: Keys = None) -> Array:
        return affine(x, params.w_x, params.b[0])

    def step(
        self, params: RecurrentHighwayNetworkParams, state: RecurrentHighwayNetworkState, z: Array
    ) -> RecurrentHighwayNetworkState:
        s = state.h
        for layer, w_h in enumerate(params.w_h):
            a, g = jnp.split((z if layer == 0 else params.b[layer]) + s @ w_h, 2, axis=-1)
            g = sigmoid(g)
            s = g * tanh(a) + (1 - g) * s
        return RecurrentHighwayNetworkState(h=s)

    def readout(self, params: RecurrentHighwayNetworkParams, state: RecurrentHighwayNetworkState, z: Array) -> Array:
        return state.h
