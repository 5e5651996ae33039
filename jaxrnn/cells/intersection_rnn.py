"""The intersection recurrent network."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from jaxrnn.initializers import Chrono, gate_biases, gates, glorot_uniform, orthogonal
from jaxrnn.layer import Cell, Keys
from jaxrnn.ops import affine, sigmoid, tanh, zeros


class IntersectionRNNParams(NamedTuple):
    w_x: Array  # [input, 2 * hidden], gates in the order g, c, of the state
    w_h: Array  # [hidden, 2 * hidden]
    b: Array  # [2 * hidden]
    w_xy: Array  # [input, 2 * input], gates in the order g, c, of the output
    w_hy: Array  # [hidden, 2 * input]
    b_y: Array  # [2 * input]


class IntersectionRNNState(NamedTuple):
    h: Array  # [*batch, hidden]
    y: Array  # [*batch, input]


@dataclass(frozen=True)
class IntersectionRNN(Cell):
    r"""Intersection recurrent network (+RNN): gates pass the state on in time and the input on in depth.

    .. math::
        g^h_t &= \sigma(W^h_g x_t + R^h_g h_{t-1} + b^h_g) \\
        c^h_t &= \phi(W^h_c x_t + R^h_c h_{t-1} + b^h_c) \\
        h_t &= g^h_t \odot h_{t-1} + (1 - g^h_t) \odot c^h_t \\
        g^y_t &= \sigma(W^y_g x_t + R^y_g h_{t-1} + b^y_g) \\
        c^y_t &= \mathrm{ReLU}(W^y_c x_t + R^y_c h_{t-1} + b^y_c) \\
        y_t &= g^y_t \odot x_t + (1 - g^y_t) \odot c^y_t

    The output is :math:`y_t`, as large as the input, for a `Stack` of such layers. It reads the state before the
    step, so the step makes it and the state holds it; no later step reads it. The input itself is passed on:
    symbols need an `Embedding` first.

    Args:
      hidden_size: size of :math:`h`.
      forget_bias: initial value of :math:`b^h_g`, a number or `Chrono(longest)`; above zero the state lasts longer.
      pass_bias: initial value of :math:`b^y_g`; above zero the input passes.
      activation: :math:`\phi`, elementwise, such as `jnp.tanh` or `jax.nn.relu`.

    References: J. Collins, J. Sohl-Dickstein, D. Sussillo, "Capacity and trainability in recurrent neural
    networks", 2017. Deviation: the paper's constants beside the gates' biases are their initial values here.
    """

    hidden_size: int
    forget_bias: float | Chrono = 1.0
    pass_bias: float = 1.0
    activation: Callable[[Array], Array] = tanh

    def init(self, key: Array, input_size: int) -> IntersectionRNNParams:
        n, m = self.hidden_size, input_size
        k_x, k_h, k_xy, k_hy, k_b, k_by = jax.random.split(key, 6)
        w_x, w_xy = gates(glorot_uniform, k_x, (m, n), 2), gates(glorot_uniform, k_xy, (m, m), 2)
        w_h, w_hy = gates(orthogonal, k_h, (n, n), 2), gates(orthogonal, k_hy, (n, m), 2)
        b = jnp.concatenate([gate_biases(k_b, self.forget_bias, n)[0], jnp.zeros(n)])
        b_y = jnp.concatenate([gate_biases(k_by, self.pass_bias, m)[0], jnp.zeros(m)])
        return IntersectionRNNParams(w_x, w_h, b, w_xy, w_hy, b_y)

    def initial_state(self, params, batch_shape=(), dtype=None) -> IntersectionRNNState:
        return IntersectionRNNState(*zeros(params, batch_shape, dtype, self.hidden_size, params.w_xy.shape[0]))

    def project(self, params: IntersectionRNNParams, x: Array, key: Keys = None) -> tuple:
        return affine(x, params.w_x, params.b), affine(x, params.w_xy, params.b_y), x

    def step(self, params: IntersectionRNNParams, state: IntersectionRNNState, z: tuple) -> IntersectionRNNState:
        z_h, z_y, x = z
        g, c = jnp.split(z_h + state.h @ params.w_h, 2, axis=-1)
        g_y, c_y = jnp.split(z_y + state.h @ params.w_hy, 2, axis=-1)
        g, g_y = sigmoid(g), sigmoid(g_y)
        h = g * state.h + (1 - g) * self.activation(c)
        return IntersectionRNNState(h=h, y=g_y * x + (1 - g_y) * jax.nn.relu(c_y))

    def readout(self, params: IntersectionRNNParams, state: IntersectionRNNState, z: tuple) -> Array:
        return state.y
