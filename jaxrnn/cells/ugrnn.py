"""Update gate recurrent network."""

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
from jaxrnn.ops import affine, sigmoid, tanh, zeros


class UGRNNParams(NamedTuple):
    w_x: Array  # [input, 2 * hidden], gates in the order g, c
    w_h: Array  # [hidden, 2 * hidden]
    b: Array  # [2 * hidden]


class UGRNNState(NamedTuple):
    h: Array  # [*batch, hidden]


class UGRNNGates(NamedTuple):
    g: Array  # [*batch, hidden], update gate
    c: Array  # candidate


@dataclass(frozen=True)
class UGRNN(Cell):
    r"""Update gate recurrent network: a vanilla network with one gate.

    The candidate is the step of `Elman`, and the gate decides for each unit how much of its state to keep.

    .. math::
        g_t &= \sigma(W_g x_t + R_g h_{t-1} + b_g) \\
        c_t &= \phi(W_c x_t + R_c h_{t-1} + b_c) \\
        h_t &= g_t \odot h_{t-1} + (1 - g_t) \odot c_t

    The output is :math:`h_t`.

    Example:
      >>> cell = jaxrnn.UGRNN(hidden_size=64)
      >>> params = cell.init(jax.random.key(0), input_size=8)
      >>> state, ys = jaxrnn.unroll(cell, params, jnp.zeros((20, 32, 8)))  # [time, batch, input]
      >>> ys.shape
      (20, 32, 64)

    Args:
      hidden_size: Size of :math:`h`.
      forget_bias: Initial value of :math:`b_g`: a number, or `Chrono(longest)`. Above zero the state lasts longer.
      activation: :math:`\phi`, an elementwise function such as `jnp.tanh` or `jax.nn.relu`.

    References:
      J. Collins, J. Sohl-Dickstein, D. Sussillo, "Capacity and trainability in recurrent neural networks", 2017.

    Deviations:
      The paper adds a constant to :math:`b_g`; here the constant is the initial value of :math:`b_g`.
    """

    hidden_size: int
    _: KW_ONLY
    forget_bias: float | Chrono = 1.0
    activation: Callable[[Array], Array] = tanh

    def __post_init__(self) -> None:
        check.positive(self, "hidden_size")
        check.gate_bias(self, "forget_bias")
        check.function(self, "activation")

    def init(self, key: Array, input_size: int) -> UGRNNParams:
        n = self.hidden_size
        k_x, k_h, k_b = jax.random.split(key, 3)
        w_x = gates(glorot_uniform, k_x, (input_size, n), 2)
        w_h = gates(orthogonal, k_h, (n, n), 2)
        b_g, _ = gate_biases(k_b, self.forget_bias, n)
        return UGRNNParams(w_x, w_h, jnp.concatenate([b_g, jnp.zeros(n)]))

    def initial_state(self, params, batch_shape=(), dtype=None) -> UGRNNState:
        return UGRNNState(*zeros(params, batch_shape, dtype, self.hidden_size))

    def project(self, params: UGRNNParams, x: Array, key: Keys = None) -> Array:
        return affine(x, params.w_x, params.b)

    def gates(self, params: UGRNNParams, state: UGRNNState, z: Array) -> UGRNNGates:
        """Returns the gates and the candidate of a step, given the state before it."""
        g, c = jnp.split(z + state.h @ params.w_h, 2, axis=-1)
        return UGRNNGates(sigmoid(g), self.activation(c))

    def step(self, params: UGRNNParams, state: UGRNNState, z: Array) -> UGRNNState:
        g, c = self.gates(params, state, z)
        return UGRNNState(h=g * state.h + (1 - g) * c)

    def readout(self, params: UGRNNParams, state: UGRNNState, z: Array) -> Array:
        return state.h
