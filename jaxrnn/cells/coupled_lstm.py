"""Long short-term memory with coupled input and forget gates (CIFG)."""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from jaxrnn import _check as check
from jaxrnn.initializers import Chrono, gate_biases, gates, glorot_uniform, orthogonal
from jaxrnn.layer import Cell, Keys
from jaxrnn.ops import affine, sigmoid, tanh, zeros


class CoupledLSTMParams(NamedTuple):
    w_x: Array  # [input, 3 * hidden], gates in the order f, g, o
    w_h: Array  # [hidden, 3 * hidden]
    b: Array  # [3 * hidden]


class CoupledLSTMState(NamedTuple):
    h: Array  # [*batch, hidden]
    c: Array  # [*batch, hidden]


class CoupledLSTMGates(NamedTuple):
    f: Array  # [*batch, hidden], forget gate
    g: Array  # candidate
    o: Array  # output gate


@dataclass(frozen=True)
class CoupledLSTM(Cell):
    r"""Long short-term memory with coupled input and forget gates: it writes exactly as much as it forgets.

    It has three quarters of the weights of `LSTM`. `CappedLSTM` keeps both gates and limits the input gate.

    .. math::
        f_t &= \sigma(W_f x_t + R_f h_{t-1} + b_f) \\
        g_t &= \tanh(W_g x_t + R_g h_{t-1} + b_g) \\
        o_t &= \sigma(W_o x_t + R_o h_{t-1} + b_o) \\
        c_t &= f_t \odot c_{t-1} + (1 - f_t) \odot g_t \\
        h_t &= o_t \odot \tanh(c_t)

    The output is :math:`h_t`.

    Example:
      >>> cell = jaxrnn.CoupledLSTM(hidden_size=32)
      >>> params = cell.init(jax.random.key(0), input_size=8)
      >>> state, ys = jaxrnn.unroll(cell, params, jnp.zeros((20, 4, 8)))  # [time, batch, input]
      >>> ys.shape, state.c.shape
      ((20, 4, 32), (4, 32))

    Args:
      hidden_size: Size of :math:`h` and :math:`c`.
      forget_bias: Initial value of :math:`b_f`: a number, or `Chrono(longest)`.

    References:
      K. Greff, R. Srivastava, J. Koutnik, B. Steunebrink, J. Schmidhuber, "LSTM: a search space odyssey", 2015 (CIFG).

    Deviations:
      There are no peepholes. The single gate is named after what it keeps, whereas the paper's gate is
      :math:`i_t = 1 - f_t`: both describe the same functions, with the opposite sign of the gate's weights.
    """

    hidden_size: int
    _: KW_ONLY
    forget_bias: float | Chrono = 1.0

    def __post_init__(self) -> None:
        check.positive(self, "hidden_size")
        check.gate_bias(self, "forget_bias")

    def init(self, key: Array, input_size: int) -> CoupledLSTMParams:
        n = self.hidden_size
        k_x, k_h, k_b = jax.random.split(key, 3)
        w_x = gates(glorot_uniform, k_x, (input_size, n), 3)
        w_h = gates(orthogonal, k_h, (n, n), 3)
        b_f, _ = gate_biases(k_b, self.forget_bias, n)
        return CoupledLSTMParams(w_x, w_h, jnp.concatenate([b_f, jnp.zeros(2 * n)]))

    def initial_state(self, params, batch_shape=(), dtype=None) -> CoupledLSTMState:
        return CoupledLSTMState(*zeros(params, batch_shape, dtype, self.hidden_size, self.hidden_size))

    def project(self, params: CoupledLSTMParams, x: Array, key: Keys = None) -> Array:
        return affine(x, params.w_x, params.b)

    def gates(self, params: CoupledLSTMParams, state: CoupledLSTMState, z: Array) -> CoupledLSTMGates:
        """Returns the gates and the candidate of a step, given the state before it."""
        f, g, o = jnp.split(z + state.h @ params.w_h, 3, axis=-1)
        return CoupledLSTMGates(sigmoid(f), tanh(g), sigmoid(o))

    def step(self, params: CoupledLSTMParams, state: CoupledLSTMState, z: Array) -> CoupledLSTMState:
        f, g, o = self.gates(params, state, z)
        c = f * state.c + (1 - f) * g
        return CoupledLSTMState(h=o * tanh(c), c=c)

    def readout(self, params: CoupledLSTMParams, state: CoupledLSTMState, z: Array) -> Array:
        return state.h
