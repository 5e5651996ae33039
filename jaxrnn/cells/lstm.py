"""Long short-term memory."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import KW_ONLY, dataclass, field
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from jaxrnn import _check as check
from jaxrnn.initializers import Chrono, gate_biases, gates, glorot_uniform, orthogonal
from jaxrnn.layer import Cell, Keys
from jaxrnn.ops import affine, sigmoid, tanh, zeros


class LSTMParams(NamedTuple):
    w_x: Array  # [input, 4 * hidden], gates in the order i, f, g, o
    w_h: Array  # [hidden, 4 * hidden]
    b: Array  # [4 * hidden]


class LSTMState(NamedTuple):
    h: Array  # [*batch, hidden]
    c: Array  # [*batch, hidden]


class LSTMGates(NamedTuple):
    i: Array  # [*batch, hidden], input gate
    f: Array  # forget gate
    g: Array  # candidate
    o: Array  # output gate


@dataclass(frozen=True)
class LSTM(Cell):
    r"""Long short-term memory with a forget gate and without peepholes.

    This is the variant of PyTorch, Keras and Flax. `PeepholeLSTM` adds peepholes, and `OriginalLSTM` is the
    network of 1997, which has no forget gate.

    .. math::
        i_t &= \sigma(W_i x_t + R_i h_{t-1} + b_i) \\
        f_t &= \sigma(W_f x_t + R_f h_{t-1} + b_f) \\
        g_t &= \tanh(W_g x_t + R_g h_{t-1} + b_g) \\
        o_t &= \sigma(W_o x_t + R_o h_{t-1} + b_o) \\
        c_t &= f_t \odot c_{t-1} + i_t \odot g_t \\
        h_t &= o_t \odot \tanh(c_t)

    The output is :math:`h_t`.

    Example:
      >>> cell = jaxrnn.LSTM(hidden_size=64)
      >>> params = cell.init(jax.random.key(0), input_size=8)
      >>> state, ys = jaxrnn.unroll(cell, params, jnp.zeros((20, 32, 8)))  # [time, batch, input]
      >>> ys.shape, state.c.shape
      ((20, 32, 64), (32, 64))

    Args:
      hidden_size: Size of :math:`h` and :math:`c`.
      forget_bias: Initial value of :math:`b_f`: a number, or `Chrono(longest)`, which also sets :math:`b_i`.
      activation: The elementwise function in place of tanh.
      gate_activation: The elementwise function in place of :math:`\sigma`.

    References:
      S. Hochreiter, J. Schmidhuber, "Long short-term memory", 1997; F. Gers, J. Schmidhuber, F. Cummins, "Learning
      to forget: continual prediction with LSTM", 2000; A. Graves, J. Schmidhuber, "Framewise phoneme classification
      with bidirectional LSTM and other neural network architectures", 2005, for the full gradient.

    Deviations:
      The forget bias is the initial value of a parameter (R. Jozefowicz et al., 2015) and is never added at run time.
    """

    hidden_size: int
    _: KW_ONLY
    forget_bias: float | Chrono = 1.0
    activation: Callable[[Array], Array] = field(default=tanh, repr=False)
    gate_activation: Callable[[Array], Array] = field(default=sigmoid, repr=False)

    def __post_init__(self) -> None:
        check.positive(self, "hidden_size")
        check.gate_bias(self, "forget_bias")
        check.function(self, "activation", "gate_activation")

    def init(self, key: Array, input_size: int) -> LSTMParams:
        n = self.hidden_size
        k_x, k_h, k_b = jax.random.split(key, 3)
        w_x = gates(glorot_uniform, k_x, (input_size, n), 4)
        w_h = gates(orthogonal, k_h, (n, n), 4)
        b_f, b_i = gate_biases(k_b, self.forget_bias, n)
        return LSTMParams(w_x, w_h, jnp.concatenate([b_i, b_f, jnp.zeros(2 * n)]))

    def initial_state(self, params, batch_shape=(), dtype=None) -> LSTMState:
        return LSTMState(*zeros(params, batch_shape, dtype, self.hidden_size, self.hidden_size))

    def project(self, params: LSTMParams, x: Array, key: Keys = None) -> Array:
        return affine(x, params.w_x, params.b)

    def gates(self, params: LSTMParams, state: LSTMState, z: Array) -> LSTMGates:
        """Returns the gates and the candidate of a step, given the state before it."""
        i, f, g, o = jnp.split(z + state.h @ params.w_h, 4, axis=-1)
        sigma, phi = self.gate_activation, self.activation
        return LSTMGates(sigma(i), sigma(f), phi(g), sigma(o))

    def step(self, params: LSTMParams, state: LSTMState, z: Array) -> LSTMState:
        i, f, g, o = self.gates(params, state, z)
        c = f * state.c + i * g
        return LSTMState(h=o * self.activation(c), c=c)

    def readout(self, params: LSTMParams, state: LSTMState, z: Array) -> Array:
        return state.h
