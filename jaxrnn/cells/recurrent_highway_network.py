"""Recurrent highway network."""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from jaxrnn import _check as check
from jaxrnn.initializers import gates, glorot_uniform, orthogonal
from jaxrnn.layer import Cell, Keys
from jaxrnn.ops import affine, align, sigmoid, tanh, zeros


class RecurrentHighwayNetworkParams(NamedTuple):
    w_x: Array  # [input, 2 * hidden], in the order a, g
    w_h: tuple[Array, ...]  # one per layer, [hidden, 2 * hidden]
    b: tuple[Array, ...]  # one per layer, [2 * hidden]


class RecurrentHighwayNetworkState(NamedTuple):
    h: Array  # [*batch, hidden]


@dataclass(frozen=True)
class RecurrentHighwayNetwork(Cell):
    r"""Recurrent highway network (RHN): each step passes through several highway layers; the first reads the input.

    A step is a deep function of the state, and the gate of each layer can pass the state through unchanged. `DTRNN` is
    deep in the same way but has no gates.

    .. math::
        s^0_t &= h_{t-1} \\
        a^l_t &= \tanh(W_a x_t [l = 1] + R^l_a s^{l-1}_t + b^l_a) \\
        g^l_t &= \sigma(W_g x_t [l = 1] + R^l_g s^{l-1}_t + b^l_g) \\
        s^l_t &= g^l_t \odot a^l_t + (1 - g^l_t) \odot s^{l-1}_t, \quad l = 1, \dots, L \\
        h_t &= s^L_t

    The output is :math:`h_t`.

    Example:
      >>> cell = jaxrnn.RecurrentHighwayNetwork(hidden_size=64, depth_size=5)
      >>> params = cell.init(jax.random.key(0), input_size=8)
      >>> state, ys = jaxrnn.unroll(cell, params, jnp.zeros((20, 32, 8)))  # [time, batch, input]
      >>> ys.shape, len(params.w_h)  # each layer has a recurrent matrix
      ((20, 32, 64), 5)

    Args:
      hidden_size: Size of :math:`h`.
      depth_size: :math:`L`, the number of layers in a step.
      transform_bias: Initial value of each :math:`b^l_g`. Below zero the state lasts longer.

    References:
      J. Zilly, R. Srivastava, J. Koutnik, J. Schmidhuber, "Recurrent highway networks", 2017; the carry gate is coupled
      to the transform gate, as in the paper's experiments.
    """

    hidden_size: int
    _: KW_ONLY
    depth_size: int = 3
    transform_bias: float = -2.0

    def __post_init__(self) -> None:
        check.positive(self, "hidden_size", "depth_size")
        check.finite(self, "transform_bias")

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
            a, g = jnp.split((z if layer == 0 else align(params.b[layer], z)) + s @ w_h, 2, axis=-1)
            g = sigmoid(g)
            s = g * tanh(a) + (1 - g) * s
        return RecurrentHighwayNetworkState(h=s)

    def readout(self, params: RecurrentHighwayNetworkParams, state: RecurrentHighwayNetworkState, z: Array) -> Array:
        return state.h
