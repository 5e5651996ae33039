"""Recurrent additive network."""

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
from jaxrnn.ops import affine, align, sigmoid, tanh, zeros


class RANParams(NamedTuple):
    w_x: Array  # [input, 3 * hidden], in the order c, i, f
    w_h: Array  # [hidden, 2 * hidden], gates in the order i, f
    b: Array  # [2 * hidden]


class RANState(NamedTuple):
    h: Array  # [*batch, hidden]
    c: Array  # [*batch, hidden]


class RANGates(NamedTuple):
    i: Array  # [*batch, hidden], input gate
    f: Array  # forget gate


@dataclass(frozen=True)
class RAN(Cell):
    r"""Recurrent additive network: the memory is a weighted sum of linear maps of the inputs.

    It is an `LSTM` without an output gate, whose candidate is linear and sees only the input.

    .. math::
        \tilde c_t &= W_c x_t \\
        i_t &= \sigma(W_i x_t + R_i h_{t-1} + b_i) \\
        f_t &= \sigma(W_f x_t + R_f h_{t-1} + b_f) \\
        c_t &= i_t \odot \tilde c_t + f_t \odot c_{t-1} \\
        h_t &= g(c_t)

    The output is :math:`h_t`.

    Example:
      >>> cell = jaxrnn.RAN(hidden_size=64)
      >>> params = cell.init(jax.random.key(0), input_size=8)
      >>> state, ys = jaxrnn.unroll(cell, params, jnp.zeros((20, 32, 8)))  # [time, batch, input]
      >>> ys.shape, state.c.shape
      ((20, 32, 64), (32, 64))

    Args:
      hidden_size: Size of :math:`h` and :math:`c`.
      forget_bias: Initial value of :math:`b_f`: a number, or `Chrono(longest)`, which also sets :math:`b_i`.
      activation: The elementwise function :math:`g`. The paper uses tanh and the identity.

    References:
      K. Lee, O. Levy, L. Zettlemoyer, "Recurrent additive networks", 2017.
    """

    hidden_size: int
    _: KW_ONLY
    forget_bias: float | Chrono = 1.0
    activation: Callable[[Array], Array] = tanh

    def __post_init__(self) -> None:
        check.positive(self, "hidden_size")
        check.gate_bias(self, "forget_bias")
        check.function(self, "activation")

    def init(self, key: Array, input_size: int) -> RANParams:
        n = self.hidden_size
        k_x, k_h, k_b = jax.random.split(key, 3)
        w_x = gates(glorot_uniform, k_x, (input_size, n), 3)
        w_h = gates(orthogonal, k_h, (n, n), 2)
        b_f, b_i = gate_biases(k_b, self.forget_bias, n)
        return RANParams(w_x, w_h, jnp.concatenate([b_i, b_f]))

    def initial_state(self, params, batch_shape=(), dtype=None) -> RANState:
        return RANState(*zeros(params, batch_shape, dtype, self.hidden_size, self.hidden_size))

    def project(self, params: RANParams, x: Array, key: Keys = None) -> tuple[Array, Array]:
        n = self.hidden_size
        z = affine(x, params.w_x)
        return z[..., :n], z[..., n:] + align(params.b, z)

    def gates(self, params: RANParams, state: RANState, z: tuple[Array, Array]) -> RANGates:
        """Returns the gates of a step, given the state before it."""
        _, x_gates = z
        i, f = jnp.split(x_gates + state.h @ params.w_h, 2, axis=-1)
        return RANGates(sigmoid(i), sigmoid(f))

    def step(self, params: RANParams, state: RANState, z: tuple[Array, Array]) -> RANState:
        content, _ = z
        i, f = self.gates(params, state, z)
        c = i * content + f * state.c
        return RANState(h=self.activation(c), c=c)

    def readout(self, params: RANParams, state: RANState, z: tuple[Array, Array]) -> Array:
        return state.h
