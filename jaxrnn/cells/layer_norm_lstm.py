"""Long short-term memory with layer normalization."""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from jaxrnn import _check as check
from jaxrnn.initializers import Chrono, gate_biases, gates, glorot_uniform, orthogonal
from jaxrnn.layer import Cell, Keys
from jaxrnn.ops import affine, align, normalized, sigmoid, tanh, zeros


class LayerNormLSTMParams(NamedTuple):
    w_x: Array  # [input, 4 * hidden], gates in the order i, f, g, o
    w_h: Array  # [hidden, 4 * hidden]
    b: Array  # [4 * hidden]
    gain_x: Array  # [4 * hidden]
    gain_h: Array  # [4 * hidden]
    gain_c: Array  # [hidden]
    b_c: Array  # [hidden]


class LayerNormLSTMState(NamedTuple):
    h: Array  # [*batch, hidden]
    c: Array  # [*batch, hidden]


class LayerNormLSTMGates(NamedTuple):
    i: Array  # [*batch, hidden], input gate
    f: Array  # forget gate
    g: Array  # candidate
    o: Array  # output gate


@dataclass(frozen=True)
class LayerNormLSTM(Cell):
    r"""Long short-term memory with layer normalization of both products and of the memory before the output gate.

    Without the normalization, gains and shifts, it is `LSTM`.

    .. math::
        N(a) &= (a - \mathrm{mean}(a)) / \sqrt{\mathrm{var}(a) + \epsilon} \\
        (i_t, f_t, g_t, o_t) &= \alpha_x \odot N(W x_t) + \alpha_h \odot N(R h_{t-1}) + b \\
        c_t &= \sigma(f_t) \odot c_{t-1} + \sigma(i_t) \odot \tanh(g_t) \\
        h_t &= \sigma(o_t) \odot \tanh(\alpha_c \odot N(c_t) + b_c)

    :math:`W x_t` and :math:`R h_{t-1}` are each normalized over all four gates together, as in the paper. The output is
    :math:`h_t`.

    Example:
      >>> cell = jaxrnn.LayerNormLSTM(hidden_size=64)
      >>> params = cell.init(jax.random.key(0), input_size=8)
      >>> state, ys = jaxrnn.unroll(cell, params, jnp.zeros((20, 4, 8)))  # [time, batch, input]
      >>> ys.shape, state.c.shape
      ((20, 4, 64), (4, 64))

    Args:
      hidden_size: Size of :math:`h` and :math:`c`.
      forget_bias: Initial value of the forget gate's part of :math:`b`: a number, or `Chrono(longest)`, which also sets
        the input gate's part.
      epsilon: :math:`\epsilon`, added to the variance.

    References:
      J. Ba, J. Kiros, G. Hinton, "Layer normalization", 2016, supplementary material.

    Deviations:
      The bias and the shifts of the two normalized products are one vector, their sum.
    """

    hidden_size: int
    _: KW_ONLY
    forget_bias: float | Chrono = 1.0
    epsilon: float = 1e-6

    def __post_init__(self) -> None:
        check.positive(self, "hidden_size")
        check.gate_bias(self, "forget_bias")
        check.non_negative(self, "epsilon")

    def init(self, key: Array, input_size: int) -> LayerNormLSTMParams:
        n = self.hidden_size
        k_x, k_h, k_b = jax.random.split(key, 3)
        w_x = gates(glorot_uniform, k_x, (input_size, n), 4)
        w_h = gates(orthogonal, k_h, (n, n), 4)
        b_f, b_i = gate_biases(k_b, self.forget_bias, n)
        b = jnp.concatenate([b_i, b_f, jnp.zeros(2 * n)])
        return LayerNormLSTMParams(w_x, w_h, b, jnp.ones(4 * n), jnp.ones(4 * n), jnp.ones(n), jnp.zeros(n))

    def initial_state(self, params, batch_shape=(), dtype=None) -> LayerNormLSTMState:
        return LayerNormLSTMState(*zeros(params, batch_shape, dtype, self.hidden_size, self.hidden_size))

    def project(self, params: LayerNormLSTMParams, x: Array, key: Keys = None) -> Array:
        a = normalized(affine(x, params.w_x), self.epsilon)
        gain_x, b = align((params.gain_x, params.b), a)
        return gain_x * a + b

    def gates(self, params: LayerNormLSTMParams, state: LayerNormLSTMState, z: Array) -> LayerNormLSTMGates:
        """Returns the gates and the candidate of a step, given the state before it."""
        z = z + align(params.gain_h, z) * normalized(state.h @ params.w_h, self.epsilon)
        i, f, g, o = jnp.split(z, 4, axis=-1)
        return LayerNormLSTMGates(sigmoid(i), sigmoid(f), tanh(g), sigmoid(o))

    def step(self, params: LayerNormLSTMParams, state: LayerNormLSTMState, z: Array) -> LayerNormLSTMState:
        i, f, g, o = self.gates(params, state, z)
        c = f * state.c + i * g
        gain_c, b_c = align((params.gain_c, params.b_c), c)
        return LayerNormLSTMState(h=o * tanh(gain_c * normalized(c, self.epsilon) + b_c), c=c)

    def readout(self, params: LayerNormLSTMParams, state: LayerNormLSTMState, z: Array) -> Array:
        return state.h
