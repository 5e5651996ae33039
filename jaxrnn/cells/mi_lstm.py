"""Long short-term memory with multiplicative integration."""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from jaxrnn import _check as check
from jaxrnn.initializers import Chrono, gate_biases, gates, glorot_uniform, orthogonal
from jaxrnn.layer import Cell, Keys
from jaxrnn.ops import affine, align, sigmoid, tanh, zeros


class MILSTMParams(NamedTuple):
    w_x: Array  # [input, 4 * hidden], gates in the order i, f, g, o
    w_h: Array  # [hidden, 4 * hidden]
    alpha: Array  # [4 * hidden], scales the product of both
    beta: Array  # [2, 4 * hidden], scales the product with the state, then that with the input
    b: Array  # [4 * hidden]


class MILSTMState(NamedTuple):
    h: Array  # [*batch, hidden]
    c: Array  # [*batch, hidden]


class MILSTMGates(NamedTuple):
    i: Array  # [*batch, hidden], input gate
    f: Array  # forget gate
    g: Array  # candidate
    o: Array  # output gate


@dataclass(frozen=True)
class MILSTM(Cell):
    r"""Long short-term memory with multiplicative integration of input and state.

    Each gate adds to the usual sum the elementwise product of what it reads from the input and from the state, so that
    the input also scales what comes from the past. With :math:`\alpha = 0` it is an `LSTM` whose products are scaled by
    :math:`\beta`. `MIRNN` is the same idea without gates.

    .. math::
        a^k_t &= \alpha^k \odot W_k x_t \odot U_k h_{t-1} + \beta^k_1 \odot U_k h_{t-1} +
        \beta^k_2 \odot W_k x_t + b^k, \quad k = i, f, g, o \\
        i_t &= \sigma(a^i_t), \quad f_t = \sigma(a^f_t), \quad g_t = \tanh(a^g_t), \quad o_t = \sigma(a^o_t) \\
        c_t &= f_t \odot c_{t-1} + i_t \odot g_t \\
        h_t &= o_t \odot \tanh(c_t)

    The output is :math:`h_t`.

    Example:
      >>> cell = jaxrnn.MILSTM(hidden_size=64)
      >>> params = cell.init(jax.random.key(0), input_size=8)
      >>> state, ys = jaxrnn.unroll(cell, params, jnp.zeros((20, 32, 8)))  # [time, batch, input]
      >>> ys.shape, state.c.shape
      ((20, 32, 64), (32, 64))

    Args:
      hidden_size: Size of :math:`h` and :math:`c`.
      alpha: Initial value of each :math:`\alpha`.
      beta: Initial value of each :math:`\beta_1` and :math:`\beta_2`.
      forget_bias: Initial value of :math:`b^f`: a number, or `Chrono(longest)`, which also sets :math:`b^i`.

    References:
      Y. Wu, S. Zhang, Y. Zhang, Y. Bengio, R. Salakhutdinov, "On multiplicative integration with recurrent neural
      networks", 2016.
    """

    hidden_size: int
    _: KW_ONLY
    alpha: float = 1.0
    beta: float = 0.5
    forget_bias: float | Chrono = 1.0

    def __post_init__(self) -> None:
        check.positive(self, "hidden_size")
        check.finite(self, "alpha", "beta")
        check.gate_bias(self, "forget_bias")

    def init(self, key: Array, input_size: int) -> MILSTMParams:
        n = self.hidden_size
        k_x, k_h, k_b = jax.random.split(key, 3)
        w_x = gates(glorot_uniform, k_x, (input_size, n), 4)
        w_h = gates(orthogonal, k_h, (n, n), 4)
        b_f, b_i = gate_biases(k_b, self.forget_bias, n)
        b = jnp.concatenate([b_i, b_f, jnp.zeros(2 * n)])
        alpha = jnp.full(4 * n, float(self.alpha))
        beta = jnp.full((2, 4 * n), float(self.beta))
        return MILSTMParams(w_x, w_h, alpha, beta, b)

    def initial_state(self, params, batch_shape=(), dtype=None) -> MILSTMState:
        return MILSTMState(*zeros(params, batch_shape, dtype, self.hidden_size, self.hidden_size))

    def project(self, params: MILSTMParams, x: Array, key: Keys = None) -> tuple[Array, Array]:
        z = affine(x, params.w_x)
        alpha, beta_h, beta_x, b = align((params.alpha, *params.beta, params.b), z)
        return alpha * z + beta_h, beta_x * z + b

    def gates(self, params: MILSTMParams, state: MILSTMState, z: tuple[Array, Array]) -> MILSTMGates:
        """Returns the gates and the candidate of a step, given the state before it."""
        slope, offset = z
        i, f, g, o = jnp.split(slope * (state.h @ params.w_h) + offset, 4, axis=-1)
        return MILSTMGates(sigmoid(i), sigmoid(f), tanh(g), sigmoid(o))

    def step(self, params: MILSTMParams, state: MILSTMState, z: tuple[Array, Array]) -> MILSTMState:
        i, f, g, o = self.gates(params, state, z)
        c = f * state.c + i * g
        return MILSTMState(h=o * tanh(c), c=c)

    def readout(self, params: MILSTMParams, state: MILSTMState, z: tuple[Array, Array]) -> Array:
        return state.h
