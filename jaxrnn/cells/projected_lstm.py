"""Long short-term memory with a recurrent projection (LSTMP)."""

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


class ProjectedLSTMParams(NamedTuple):
    w_x: Array  # [input, 4 * hidden], gates in the order i, f, g, o
    w_h: Array  # [projection, 4 * hidden]
    b: Array  # [4 * hidden]
    w_p: Array  # [hidden, projection]


class ProjectedLSTMState(NamedTuple):
    h: Array  # [*batch, projection]
    c: Array  # [*batch, hidden]


class ProjectedLSTMGates(NamedTuple):
    i: Array  # [*batch, hidden], input gate
    f: Array  # forget gate
    g: Array  # candidate
    o: Array  # output gate


@dataclass(frozen=True)
class ProjectedLSTM(Cell):
    r"""Long short-term memory with a linear recurrent projection (LSTMP).

    The gates read a projection of the usual output, which makes a large number of memory cells affordable: the
    recurrent matrices read `projection_size` values in place of `hidden_size`.

    .. math::
        i_t &= \sigma(W_i x_t + R_i h_{t-1} + b_i) \\
        f_t &= \sigma(W_f x_t + R_f h_{t-1} + b_f) \\
        g_t &= \tanh(W_g x_t + R_g h_{t-1} + b_g) \\
        o_t &= \sigma(W_o x_t + R_o h_{t-1} + b_o) \\
        c_t &= f_t \odot c_{t-1} + i_t \odot g_t \\
        h_t &= P (o_t \odot \tanh(c_t))

    The output is :math:`h_t`.

    Example:
      >>> cell = jaxrnn.ProjectedLSTM(hidden_size=64, projection_size=16)
      >>> params = cell.init(jax.random.key(0), input_size=8)
      >>> state, ys = jaxrnn.unroll(cell, params, jnp.zeros((20, 32, 8)))  # [time, batch, input]
      >>> ys.shape, state.c.shape
      ((20, 32, 16), (32, 64))

    Args:
      hidden_size: Size of :math:`c`.
      projection_size: Size of :math:`h`.
      forget_bias: Initial value of :math:`b_f`: a number, or `Chrono(longest)`, which also sets :math:`b_i`.

    References:
      H. Sak, A. Senior, F. Beaufays, "Long short-term memory based recurrent neural network architectures for large
      vocabulary speech recognition", 2014.

    Deviations:
      There are no peepholes and no second, non-recurrent projection, as in PyTorch's `proj_size` and in cuDNN.
    """

    hidden_size: int
    projection_size: int
    _: KW_ONLY
    forget_bias: float | Chrono = 1.0

    def __post_init__(self) -> None:
        check.positive(self, "hidden_size", "projection_size")
        check.gate_bias(self, "forget_bias")

    def init(self, key: Array, input_size: int) -> ProjectedLSTMParams:
        n, p = self.hidden_size, self.projection_size
        k_x, k_h, k_p, k_b = jax.random.split(key, 4)
        w_x = gates(glorot_uniform, k_x, (input_size, n), 4)
        w_h = gates(orthogonal, k_h, (p, n), 4)
        w_p = orthogonal(k_p, (n, p))
        b_f, b_i = gate_biases(k_b, self.forget_bias, n)
        return ProjectedLSTMParams(w_x, w_h, jnp.concatenate([b_i, b_f, jnp.zeros(2 * n)]), w_p)

    def initial_state(self, params, batch_shape=(), dtype=None) -> ProjectedLSTMState:
        return ProjectedLSTMState(*zeros(params, batch_shape, dtype, self.projection_size, self.hidden_size))

    def project(self, params: ProjectedLSTMParams, x: Array, key: Keys = None) -> Array:
        return affine(x, params.w_x, params.b)

    def gates(self, params: ProjectedLSTMParams, state: ProjectedLSTMState, z: Array) -> ProjectedLSTMGates:
        """Returns the gates and the candidate of a step, given the state before it."""
        i, f, g, o = jnp.split(z + state.h @ params.w_h, 4, axis=-1)
        return ProjectedLSTMGates(sigmoid(i), sigmoid(f), tanh(g), sigmoid(o))

    def step(self, params: ProjectedLSTMParams, state: ProjectedLSTMState, z: Array) -> ProjectedLSTMState:
        i, f, g, o = self.gates(params, state, z)
        c = f * state.c + i * g
        return ProjectedLSTMState(h=(o * tanh(c)) @ params.w_p, c=c)

    def readout(self, params: ProjectedLSTMParams, state: ProjectedLSTMState, z: Array) -> Array:
        return state.h
