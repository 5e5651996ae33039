"""LSTM with only a forget gate."""

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


class JANETParams(NamedTuple):
    w_x: Array  # [input, 2 * hidden], gates in the order f, g
    w_h: Array  # [hidden, 2 * hidden]
    b: Array  # [2 * hidden]


class JANETState(NamedTuple):
    h: Array  # [*batch, hidden]


class JANETGates(NamedTuple):
    f: Array  # [*batch, hidden], forget gate, σ(s)
    i: Array  # input gate, 1 - σ(s - β)
    g: Array  # candidate


@dataclass(frozen=True)
class JANET(Cell):
    r"""Just another network (JANET): the LSTM reduced to its forget gate.

    It has half of the weights of an `LSTM`.

    .. math::
        s_t &= W_f x_t + R_f h_{t-1} + b_f \\
        g_t &= \tanh(W_g x_t + R_g h_{t-1} + b_g) \\
        h_t &= \sigma(s_t) \odot h_{t-1} + (1 - \sigma(s_t - \beta)) \odot g_t

    The output is :math:`h_t`.

    Example:
      >>> cell = jaxrnn.JANET(hidden_size=64, forget_bias=jaxrnn.initializers.Chrono(20))  # as in the paper
      >>> params = cell.init(jax.random.key(0), input_size=8)
      >>> state, ys = jaxrnn.unroll(cell, params, jnp.zeros((20, 4, 8)))  # [time, batch, input]
      >>> ys.shape
      (20, 4, 64)

    Args:
      hidden_size: Size of :math:`h`.
      forget_bias: Initial value of :math:`b_f`: a number, or `Chrono(longest)`, which is the paper's choice.
      beta: :math:`\beta`. Above zero, the cell writes more than it forgets.

    References:
      J. van der Westhuizen, J. Lasenby, "The unreasonable effectiveness of the forget gate", 2018.
    """

    hidden_size: int
    _: KW_ONLY
    forget_bias: float | Chrono = 1.0
    beta: float = 1.0

    def __post_init__(self) -> None:
        check.positive(self, "hidden_size")
        check.gate_bias(self, "forget_bias")
        check.finite(self, "beta")

    def init(self, key: Array, input_size: int) -> JANETParams:
        n = self.hidden_size
        k_x, k_h, k_b = jax.random.split(key, 3)
        w_x = gates(glorot_uniform, k_x, (input_size, n), 2)
        w_h = gates(orthogonal, k_h, (n, n), 2)
        b_f, _ = gate_biases(k_b, self.forget_bias, n)
        return JANETParams(w_x, w_h, jnp.concatenate([b_f, jnp.zeros(n)]))

    def initial_state(self, params, batch_shape=(), dtype=None) -> JANETState:
        return JANETState(*zeros(params, batch_shape, dtype, self.hidden_size))

    def project(self, params: JANETParams, x: Array, key: Keys = None) -> Array:
        return affine(x, params.w_x, params.b)

    def gates(self, params: JANETParams, state: JANETState, z: Array) -> JANETGates:
        """Returns the gates and the candidate of a step, given the state before it."""
        s, g = jnp.split(z + state.h @ params.w_h, 2, axis=-1)
        return JANETGates(sigmoid(s), 1 - sigmoid(s - self.beta), tanh(g))

    def step(self, params: JANETParams, state: JANETState, z: Array) -> JANETState:
        f, i, g = self.gates(params, state, z)
        return JANETState(h=f * state.h + i * g)

    def readout(self, params: JANETParams, state: JANETState, z: Array) -> Array:
        return state.h
