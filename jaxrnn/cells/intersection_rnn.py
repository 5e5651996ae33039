"""Intersection recurrent network."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import KW_ONLY, dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from jaxrnn import _check as check
from jaxrnn.initializers import Chrono, gate_biases, gates, glorot_uniform, orthogonal
from jaxrnn.layer import Cell, Keys
from jaxrnn.ops import affine, as_features, sigmoid, tanh, zeros


class IntersectionRNNParams(NamedTuple):
    w_x: Array  # [input, 2 * hidden], gates of the state in the order g, c
    w_h: Array  # [hidden, 2 * hidden]
    b: Array  # [2 * hidden]
    w_xy: Array  # [input, 2 * input], gates of the output in the order g, c
    w_hy: Array  # [hidden, 2 * input]
    b_y: Array  # [2 * input]


class IntersectionRNNState(NamedTuple):
    h: Array  # [*batch, hidden]
    y: Array  # [*batch, input]


@dataclass(frozen=True)
class IntersectionRNN(Cell):
    r"""Intersection recurrent network (+RNN): one gate carries the state in time, another the input in depth.

    The output has the size of the input. In a `Stack`, the gate of the output is a highway from layer to layer.

    .. math::
        g^h_t &= \sigma(W^h_g x_t + R^h_g h_{t-1} + b^h_g) \\
        c^h_t &= \phi(W^h_c x_t + R^h_c h_{t-1} + b^h_c) \\
        h_t &= g^h_t \odot h_{t-1} + (1 - g^h_t) \odot c^h_t \\
        g^y_t &= \sigma(W^y_g x_t + R^y_g h_{t-1} + b^y_g) \\
        c^y_t &= \mathrm{ReLU}(W^y_c x_t + R^y_c h_{t-1} + b^y_c) \\
        y_t &= g^y_t \odot x_t + (1 - g^y_t) \odot c^y_t

    The output is :math:`y_t`. It depends on the state before the step, so the step computes it and the state stores it;
    no later step reads it. The cell passes on the input itself, so symbols become one-hot vectors; an `Embedding`
    before it is cheaper.

    Example:
      >>> cell = jaxrnn.IntersectionRNN(hidden_size=64)
      >>> params = cell.init(jax.random.key(0), input_size=8)
      >>> state, ys = jaxrnn.unroll(cell, params, jnp.zeros((20, 4, 8)))  # [time, batch, input]
      >>> ys.shape, state.h.shape  # the output is as large as the input
      ((20, 4, 8), (4, 64))

    Args:
      hidden_size: Size of :math:`h`.
      forget_bias: Initial value of :math:`b^h_g`: a number, or `Chrono(longest)`. Above zero the state lasts longer.
      pass_bias: Initial value of :math:`b^y_g`, a number. Above zero, more of the input passes.
      activation: :math:`\phi`, an elementwise function such as `jnp.tanh` or `jax.nn.relu`.

    References:
      J. Collins, J. Sohl-Dickstein, D. Sussillo, "Capacity and trainability in recurrent neural networks", 2017.

    Deviations:
      The constants that the paper adds to the biases of the gates are the initial values of these biases.
    """

    hidden_size: int
    _: KW_ONLY
    forget_bias: float | Chrono = 1.0
    pass_bias: float = 1.0
    activation: Callable[[Array], Array] = tanh

    def __post_init__(self) -> None:
        check.positive(self, "hidden_size")
        check.gate_bias(self, "forget_bias")
        check.finite(self, "pass_bias")
        check.function(self, "activation")

    def init(self, key: Array, input_size: int) -> IntersectionRNNParams:
        n, m = self.hidden_size, input_size
        k_x, k_h, k_xy, k_hy, k_b, k_by = jax.random.split(key, 6)
        w_x = gates(glorot_uniform, k_x, (m, n), 2)
        w_h = gates(orthogonal, k_h, (n, n), 2)
        w_xy = gates(glorot_uniform, k_xy, (m, m), 2)
        w_hy = gates(orthogonal, k_hy, (n, m), 2)
        b = jnp.concatenate([gate_biases(k_b, self.forget_bias, n)[0], jnp.zeros(n)])
        b_y = jnp.concatenate([gate_biases(k_by, self.pass_bias, m)[0], jnp.zeros(m)])
        return IntersectionRNNParams(w_x, w_h, b, w_xy, w_hy, b_y)

    def initial_state(self, params, batch_shape=(), dtype=None) -> IntersectionRNNState:
        return IntersectionRNNState(*zeros(params, batch_shape, dtype, self.hidden_size, params.w_xy.shape[0]))

    def project(self, params: IntersectionRNNParams, x: Array, key: Keys = None) -> tuple:
        x_itself = as_features(x, params.w_xy.shape[0], params.w_xy.dtype)
        return affine(x, params.w_x, params.b), affine(x, params.w_xy, params.b_y), x_itself

    def step(self, params: IntersectionRNNParams, state: IntersectionRNNState, z: tuple) -> IntersectionRNNState:
        z_h, z_y, x = z
        g, c = jnp.split(z_h + state.h @ params.w_h, 2, axis=-1)
        g_y, c_y = jnp.split(z_y + state.h @ params.w_hy, 2, axis=-1)
        g = sigmoid(g)
        g_y = sigmoid(g_y)
        h = g * state.h + (1 - g) * self.activation(c)
        y = g_y * x + (1 - g_y) * jax.nn.relu(c_y)
        return IntersectionRNNState(h=h, y=y)

    def readout(self, params: IntersectionRNNParams, state: IntersectionRNNState, z: tuple) -> Array:
        return state.y
