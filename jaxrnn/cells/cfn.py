"""The chaos-free network."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from jaxrnn.initializers import Chrono, gate_biases, gates, glorot_uniform, orthogonal
from jaxrnn.layer import Cell, Keys
from jaxrnn.ops import affine, sigmoid, tanh, zeros


class CFNParams(NamedTuple):
    w_x: Array  # [input, 3 * hidden], gates in the order theta, eta, a
    w_h: Array  # [hidden, 2 * hidden], gates in the order theta, eta
    b: Array  # [2 * hidden], of theta and eta


class CFNState(NamedTuple):
    h: Array  # [*batch, hidden]


@dataclass(frozen=True)
class CFN(Cell):
    r"""Chaos-free network: gates alone mix the units, so that without input the state dies away.

    .. math::
        \theta_t &= \sigma(W_\theta x_t + R_\theta h_{t-1} + b_\theta) \\
        \eta_t &= \sigma(W_\eta x_t + R_\eta h_{t-1} + b_\eta) \\
        h_t &= \theta_t \odot \tanh(h_{t-1}) + \eta_t \odot \tanh(W x_t)

    The output is :math:`h_t`.

    Args:
      hidden_size: size of :math:`h`.
      forget_bias: initial value of :math:`b_\theta`, a number or `Chrono(longest)`, which sets :math:`b_\eta` too.

    References: T. Laurent, J. von Brecht, "A recurrent neural network without chaos", 2017.
    """

    hidden_size: int
    forget_bias: float | Chrono = 1.0

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
        return jnp.concatenate([z[..., : 2 * n] + params.b, tanh(z[..., 2 * n :])], axis=-1)

    def step(self, params: CFNParams, state: CFNState, z: Array) -> CFNState:
        n = self.hidden_size
        theta, eta = jnp.split(sigmoid(z[..., : 2 * n] + state.h @ params.w_h), 2, axis=-1)
        return CFNState(h=theta * tanh(state.h) + eta * z[..., 2 * n :])

    def readout(self, params: CFNParams, state: CFNState, z: Array) -> Array:
        return state.h
