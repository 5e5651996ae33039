"""Long short-term memory whose matrix is a product of two smaller ones."""

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


class FactorizedLSTMParams(NamedTuple):
    w_x: Array  # [input, inner], the upper part of the first factor
    w_h: Array  # [hidden, inner], the lower part of the first factor
    w_u: Array  # [inner, 4 * hidden], the second factor, gates in the order i, f, g, o
    b: Array  # [4 * hidden]


class FactorizedLSTMState(NamedTuple):
    h: Array  # [*batch, hidden]
    c: Array  # [*batch, hidden]


class FactorizedLSTMGates(NamedTuple):
    i: Array  # [*batch, hidden], input gate
    f: Array  # forget gate
    g: Array  # candidate
    o: Array  # output gate


@dataclass(frozen=True)
class FactorizedLSTM(Cell):
    r"""Factorized long short-term memory (F-LSTM): its matrix is a product of two smaller ones.

    The matrix of all gates therefore has low rank, and for a small `inner_size` the cell has fewer weights than `LSTM`.

    .. math::
        u_t &= W x_t + R h_{t-1} \\
        (i_t, f_t, g_t, o_t) &= (\sigma, \sigma, \tanh, \sigma)(U u_t + b) \\
        c_t &= f_t \odot c_{t-1} + i_t \odot g_t \\
        h_t &= o_t \odot \tanh(c_t)

    The output is :math:`h_t`.

    Example:
      >>> cell = jaxrnn.FactorizedLSTM(hidden_size=32, inner_size=4)
      >>> params = cell.init(jax.random.key(0), input_size=8)
      >>> jax.tree.map(jnp.shape, params)
      FactorizedLSTMParams(w_x=(8, 4), w_h=(32, 4), w_u=(4, 128), b=(128,))
      >>> state, ys = jaxrnn.unroll(cell, params, jnp.zeros((20, 4, 8)))  # [time, batch, input]
      >>> ys.shape
      (20, 4, 32)

    Args:
      hidden_size: Size of :math:`h` and :math:`c`.
      inner_size: Size of :math:`u`, an upper bound of the rank of the matrix of all gates.
      forget_bias: Initial value of :math:`b_f`: a number, or `Chrono(longest)`, which also sets :math:`b_i`.

    References:
      O. Kuchaiev, B. Ginsburg, "Factorization tricks for LSTM networks", 2017.

    Deviations:
      The paper's projection of :math:`h_t` is left out.
    """

    hidden_size: int
    inner_size: int
    _: KW_ONLY
    forget_bias: float | Chrono = 1.0

    def __post_init__(self) -> None:
        check.positive(self, "hidden_size", "inner_size")
        check.gate_bias(self, "forget_bias")

    def init(self, key: Array, input_size: int) -> FactorizedLSTMParams:
        n, inner = self.hidden_size, self.inner_size
        k_x, k_h, k_u, k_b = jax.random.split(key, 4)
        w_u = gates(orthogonal, k_u, (inner, n), 4)
        b_f, b_i = gate_biases(k_b, self.forget_bias, n)
        b = jnp.concatenate([b_i, b_f, jnp.zeros(2 * n)])
        return FactorizedLSTMParams(glorot_uniform(k_x, (input_size, inner)), orthogonal(k_h, (n, inner)), w_u, b)

    def initial_state(self, params, batch_shape=(), dtype=None) -> FactorizedLSTMState:
        return FactorizedLSTMState(*zeros(params, batch_shape, dtype, self.hidden_size, self.hidden_size))

    def project(self, params: FactorizedLSTMParams, x: Array, key: Keys = None) -> Array:
        return affine(x, params.w_x)

    def gates(self, params: FactorizedLSTMParams, state: FactorizedLSTMState, z: Array) -> FactorizedLSTMGates:
        """Returns the gates and the candidate of a step, given the state before it."""
        u = z + state.h @ params.w_h
        i, f, g, o = jnp.split(affine(u, params.w_u, params.b), 4, axis=-1)
        return FactorizedLSTMGates(sigmoid(i), sigmoid(f), tanh(g), sigmoid(o))

    def step(self, params: FactorizedLSTMParams, state: FactorizedLSTMState, z: Array) -> FactorizedLSTMState:
        i, f, g, o = self.gates(params, state, z)
        c = f * state.c + i * g
        return FactorizedLSTMState(h=o * tanh(c), c=c)

    def readout(self, params: FactorizedLSTMParams, state: FactorizedLSTMState, z: Array) -> Array:
        return state.h
