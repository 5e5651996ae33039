"""Chaos-free network."""

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


class CFNParams(NamedTuple):
    w_x: Array  # [input, 3 * hidden], gates in the order theta, eta, a
    w_h: Array  # [hidden, 2 * hidden], gates in the order theta, eta
    b: Array  # [2 * hidden], gates in the order theta, eta


class CFNState(NamedTuple):
    h: Array  # [*batch, hidden]


class CFNGates(NamedTuple):
    theta: Array  # [*batch, hidden], forget gate
    eta: Array  # input gate


@dataclass(frozen=True)
class CFN(Cell):
    r"""Chaos-free network: units affect each other only through gates, and without input the state decays.

    The paper proves that its dynamics without input are not chaotic, in contrast to those of `LSTM` and `GRU`.

    .. math::
        \theta_t &= \sigma(W_\theta x_t + R_\theta h_{t-1} + b_\theta) \\
        \eta_t &= \sigma(W_\eta x_t + R_\eta h_{t-1} + b_\eta) \\
        h_t &= \theta_t \odot \tanh(h_{t-1}) + \eta_t \odot \tanh(W x_t)

    The output is :math:`h_t`.

    Example:
      >>> cell = jaxrnn.CFN(hidden_size=32)
      >>> params = cell.init(jax.random.key(0), input_size=8)
      >>> state, ys = jaxrnn.unroll(cell, params, jnp.zeros((100, 8)), jaxrnn.cells.CFNState(jnp.ones(32)))
      >>> bool(jnp.abs(state.h).max() < 1e-3)  # no input, so the state of ones has decayed
      True

    Args:
      hidden_size: Size of :math:`h`.
      forget_bias: Initial value of :math:`b_\theta`: a number, or `Chrono(longest)`, which also sets :math:`b_\eta`.

    References:
      T. Laurent, J. von Brecht, "A recurrent neural network without chaos", 2017.
    """

    hidden_size: int
    _: KW_ONLY
    forget_bias: float | Chrono = 1.0

    def __post_init__(self) -> None:
        check.positive(self, "hidden_size")
        check.gate_bias(self, "forget_bias")

    def init(self, key: Array, input_size: int) -> CFNParams:
        n = self.hidden_size
        k_x, k_h, k_b = jax.random.split(key, 3)
        w_x = gates(glorot_uniform, k_x, (input_size, n), 3)
        w_h = gates(orthogonal, k_h, (n, n), 2)
        return CFNParams(w_x, w_h, jnp.concatenate(gate_biases(k_b, self.forget_bias, n)))

    def initial_state(self, params, batch_shape=(), dtype=None) -> CFNState:
        return CFNState(*zeros(params, batch_shape, dtype, self.hidden_size))

    def project(self, params: CFNParams, x: Array, key: Keys = None) -> Array:
        n = self.hidden_size
        z = affine(x, params.w_x)
        return jnp.concatenate([z[..., : 2 * n] + align(params.b, z), tanh(z[..., 2 * n :])], axis=-1)

    def gates(self, params: CFNParams, state: CFNState, z: Array) -> CFNGates:
        """Returns the gates of a step, given the state before it."""
        n = self.hidden_size
        theta, eta = jnp.split(sigmoid(z[..., : 2 * n] + state.h @ params.w_h), 2, axis=-1)
        return CFNGates(theta, eta)

    def step(self, params: CFNParams, state: CFNState, z: Array) -> CFNState:
        theta, eta = self.gates(params, state, z)
        return CFNState(h=theta * tanh(state.h) + eta * z[..., 2 * self.hidden_size :])

    def readout(self, params: CFNParams, state: CFNState, z: Array) -> Array:
        return state.h
