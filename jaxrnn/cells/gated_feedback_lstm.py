"""Stack of LSTM layers with gated feedback."""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from jaxrnn import _check as check
from jaxrnn.initializers import Chrono, gate_biases, gates, glorot_uniform, orthogonal
from jaxrnn.layer import Cell, Keys
from jaxrnn.ops import affine, align, side_by_side, sigmoid, tanh, zeros


class GatedFeedbackLSTMParams(NamedTuple):
    w_x: Array  # [input, 4 * hidden + depth], gates of the first layer in the order i, f, g, o, and its global gates
    w_u: tuple[Array, ...]  # one for each layer but the first, [hidden, 4 * hidden + depth], from the layer below
    w_h: tuple[Array, ...]  # one for each layer, [hidden, 3 * hidden], from its own state to i, f, o
    w_g: tuple[Array, ...]  # one for each layer, [depth * hidden, hidden], from the states of all layers to g
    w_s: tuple[Array, ...]  # one for each layer, [depth * hidden, depth], from the same to its global gates
    b: tuple[Array, ...]  # one for each layer, [4 * hidden]


class GatedFeedbackLSTMState(NamedTuple):
    h: Array  # [*batch, depth, hidden]
    c: Array  # [*batch, depth, hidden]


@dataclass(frozen=True)
class GatedFeedbackLSTM(Cell):
    r"""Stack of LSTM layers in which each layer reads the previous states of all layers through global gates.

    In a `Stack` of `LSTM` layers, a layer reads only the layer below it and its own previous state. Here the candidate
    :math:`g` of each layer reads the previous states of all layers, and one scalar gate :math:`s` for each pair of
    layers controls how much it reads.

    .. math::
        s^{i \to j}_t &= \sigma(w^{i \to j} \cdot h^{j-1}_t + u^{i \to j} \cdot (h^1_{t-1}, \dots, h^L_{t-1})) \\
        g^j_t &= \tanh(W^j_g h^{j-1}_t + \textstyle\sum_{i=1}^L s^{i \to j}_t U^{i \to j} h^i_{t-1} + b^j_g) \\
        (i^j_t, f^j_t, o^j_t) &= \sigma(W^j_{ifo} h^{j-1}_t + R^j_{ifo} h^j_{t-1} + b^j_{ifo}) \\
        c^j_t &= f^j_t \odot c^j_{t-1} + i^j_t \odot g^j_t, \quad
        h^j_t = o^j_t \odot \tanh(c^j_t), \quad j = 1, \dots, L

    where :math:`h^0_t = x_t`; each :math:`s` is a number. The output is :math:`h^L_t`.

    Example:
      >>> cell = jaxrnn.GatedFeedbackLSTM(hidden_size=16, depth_size=3)
      >>> params = cell.init(jax.random.key(0), input_size=8)
      >>> state, ys = jaxrnn.unroll(cell, params, jnp.zeros((20, 4, 8)))  # [time, batch, input]
      >>> ys.shape, state.c.shape  # the output of the last layer, the memories of all three
      ((20, 4, 16), (4, 3, 16))

    Args:
      hidden_size: Size of :math:`h` and :math:`c` of each layer.
      depth_size: Number of layers, :math:`L`.
      forget_bias: Initial value of each :math:`b_f`: a number, or `Chrono(longest)`, which also sets :math:`b_i`.

    References:
      J. Chung, C. Gulcehre, K. Cho, Y. Bengio, "Gated feedback recurrent neural networks", 2015.
    """

    hidden_size: int
    _: KW_ONLY
    depth_size: int = 2
    forget_bias: float | Chrono = 1.0

    def __post_init__(self) -> None:
        check.positive(self, "hidden_size", "depth_size")
        check.gate_bias(self, "forget_bias")

    def init(self, key: Array, input_size: int) -> GatedFeedbackLSTMParams:
        n, depth = self.hidden_size, self.depth_size

        def layer(key: Array, size: int) -> tuple[Array, ...]:
            k_x, k_s, k_h, k_g, k_u, k_b = jax.random.split(key, 6)
            w_below = jnp.concatenate(
                [gates(glorot_uniform, k_x, (size, n), 4), glorot_uniform(k_s, (size, depth))], axis=1
            )
            w_h = gates(orthogonal, k_h, (n, n), 3)
            w_g = jnp.concatenate([orthogonal(k, (n, n)) for k in jax.random.split(k_g, depth)])
            w_s = glorot_uniform(k_u, (depth * n, depth))
            b_f, b_i = gate_biases(k_b, self.forget_bias, n)
            b = jnp.concatenate([b_i, b_f, jnp.zeros(2 * n)])
            return w_below, w_h, w_g, w_s, b

        keys = jax.random.split(key, depth)
        layers = [layer(k, n if j else input_size) for j, k in enumerate(keys)]
        w_below, *others = zip(*layers, strict=True)
        return GatedFeedbackLSTMParams(w_below[0], w_below[1:], *others)

    def initial_state(self, params, batch_shape=(), dtype=None) -> GatedFeedbackLSTMState:
        shape = (*batch_shape, self.depth_size)
        return GatedFeedbackLSTMState(*zeros(params, shape, dtype, self.hidden_size, self.hidden_size))

    def project(self, params: GatedFeedbackLSTMParams, x: Array, key: Keys = None) -> Array:
        return affine(x, params.w_x)

    def step(self, params: GatedFeedbackLSTMParams, state: GatedFeedbackLSTMState, z: Array) -> GatedFeedbackLSTMState:
        n = self.hidden_size
        past = side_by_side(state.h)
        hs, cs = [], []
        for j, (w_h, w_g, w_s, b) in enumerate(zip(*params[2:], strict=True)):
            z = hs[-1] @ params.w_u[j - 1] if hs else z
            s = sigmoid(z[..., 4 * n :] + past @ w_s)
            i, f, g, o = jnp.split(z[..., : 4 * n] + align(b, z), 4, axis=-1)
            h_i, h_f, h_o = jnp.split(state.h[..., j, :] @ w_h, 3, axis=-1)
            g = tanh(g + side_by_side(s[..., None] * state.h) @ w_g)
            cs.append(sigmoid(f + h_f) * state.c[..., j, :] + sigmoid(i + h_i) * g)
            hs.append(sigmoid(o + h_o) * tanh(cs[-1]))
        return GatedFeedbackLSTMState(h=jnp.stack(hs, axis=-2), c=jnp.stack(cs, axis=-2))

    def readout(self, params: GatedFeedbackLSTMParams, state: GatedFeedbackLSTMState, z: Array) -> Array:
        return state.h[..., -1, :]
