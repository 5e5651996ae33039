"""Simple gated unit."""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from jaxrnn import _check as check
from jaxrnn.initializers import Chrono, gate_biases, gates, glorot_uniform, orthogonal
from jaxrnn.layer import Cell, Keys
from jaxrnn.ops import affine, tanh, zeros


class SGUParams(NamedTuple):
    w_x: Array  # [input, 2 * hidden], in the order z, g
    w_h: Array  # [hidden, hidden], for the gate z
    w_g: Array  # [hidden, hidden], for the gate g
    b: Array  # [2 * hidden]


class SGUState(NamedTuple):
    h: Array  # [*batch, hidden]


class SGUGates(NamedTuple):
    g: Array  # [*batch, hidden], multiplicative gate
    o: Array  # candidate
    z: Array  # update gate


@dataclass(frozen=True)
class SGU(Cell):
    r"""Simple gated unit: a gated recurrent unit whose candidate comes from one multiplicative gate, :math:`g`.

    From a zero initial state, the state is never negative. `DSGU` has one more matrix and keeps the state between 0
    and 1.

    .. math::
        x^g_t &= W_g x_t + b_g \\
        g_t &= \tanh(R_g (x^g_t \odot h_{t-1})) \\
        o_t &= \mathrm{softplus}(g_t \odot h_{t-1}) \\
        z_t &= \mathrm{hard}\,\sigma(W_z x_t + R_z h_{t-1} + b_z) \\
        h_t &= (1 - z_t) \odot h_{t-1} + z_t \odot o_t

    where the hard sigmoid of :math:`a` is :math:`\min(1, \max(0, 0.2 a + 0.5))`. The output is :math:`h_t`.

    Example:
      >>> cell = jaxrnn.SGU(hidden_size=64)
      >>> params = cell.init(jax.random.key(0), input_size=8)
      >>> state, ys = jaxrnn.unroll(cell, params, jnp.zeros((20, 32, 8)))  # [time, batch, input]
      >>> ys.shape, bool((ys >= 0).all())
      ((20, 32, 64), True)

    Args:
      hidden_size: Size of :math:`h`.
      keep_bias: Initial value of :math:`-b_z`: a number, or `Chrono(longest)`. Above zero the state lasts longer.

    References:
      Y. Gao, D. Glowacka, "Deep gate recurrent neural network", 2016.
    """

    hidden_size: int
    _: KW_ONLY
    keep_bias: float | Chrono = 0.0

    def __post_init__(self) -> None:
        check.positive(self, "hidden_size")
        check.gate_bias(self, "keep_bias")

    def init(self, key: Array, input_size: int) -> SGUParams:
        n = self.hidden_size
        k_x, k_h, k_g, k_b = jax.random.split(key, 4)
        w_x = gates(glorot_uniform, k_x, (input_size, n), 2)
        b_keep, _ = gate_biases(k_b, self.keep_bias, n)
        b = jnp.concatenate([-b_keep, jnp.zeros(n)])
        return SGUParams(w_x, orthogonal(k_h, (n, n)), orthogonal(k_g, (n, n)), b)

    def initial_state(self, params, batch_shape=(), dtype=None) -> SGUState:
        return SGUState(*zeros(params, batch_shape, dtype, self.hidden_size))

    def project(self, params: SGUParams, x: Array, key: Keys = None) -> Array:
        return affine(x, params.w_x, params.b)

    def gates(self, params: SGUParams, state: SGUState, z: Array) -> SGUGates:
        """Returns the gates and the candidate of a step, given the state before it."""
        x_z, x_g = jnp.split(z, 2, axis=-1)
        g = tanh((x_g * state.h) @ params.w_g)
        out = jax.nn.softplus(g * state.h)
        update = jnp.clip(0.2 * (x_z + state.h @ params.w_h) + 0.5, 0, 1)
        return SGUGates(g, out, update)

    def step(self, params: SGUParams, state: SGUState, z: Array) -> SGUState:
        _, out, update = self.gates(params, state, z)
        return SGUState(h=(1 - update) * state.h + update * out)

    def readout(self, params: SGUParams, state: SGUState, z: Array) -> Array:
        return state.h
