"""Third of three units found by a search over mutations (MUT3)."""

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


class MUT3Params(NamedTuple):
    w_x: Array  # [input, 3 * hidden], in the order z, r, a
    w_h: Array  # [hidden, 2 * hidden], gates in the order z, r
    w_a: Array  # [hidden, hidden], for the candidate a
    b: Array  # [3 * hidden], in the order z, r, a


class MUT3State(NamedTuple):
    h: Array  # [*batch, hidden]


class MUT3Gates(NamedTuple):
    z: Array  # [*batch, hidden], update gate
    r: Array  # reset gate
    a: Array  # candidate


@dataclass(frozen=True)
class MUT3(Cell):
    r"""Third of three units found by a search over mutations: its update gate sees a squashed state.

    The unit resembles `ResetBeforeGRU`, but its update gate reads :math:`\tanh(h_{t-1})`. `MUT1` and
    `MUT2` are the other two.

    .. math::
        z_t &= \sigma(W_z x_t + R_z \tanh(h_{t-1}) + b_z) \\
        r_t &= \sigma(W_r x_t + R_r h_{t-1} + b_r) \\
        a_t &= \tanh(R_a (r_t \odot h_{t-1}) + W_a x_t + b_a) \\
        h_t &= z_t \odot a_t + (1 - z_t) \odot h_{t-1}

    The output is :math:`h_t`.

    Example:
      >>> cell = jaxrnn.MUT3(hidden_size=64)
      >>> params = cell.init(jax.random.key(0), input_size=8)
      >>> state, ys = jaxrnn.unroll(cell, params, jnp.zeros((20, 32, 8)))  # [time, batch, input]
      >>> ys.shape
      (20, 32, 64)

    Args:
      hidden_size: Size of :math:`h`.
      keep_bias: Initial value of :math:`-b_z`: a number, or `Chrono(longest)`. Above zero the state lasts longer.

    References:
      R. Jozefowicz, W. Zaremba, I. Sutskever, "An empirical exploration of recurrent network architectures", 2015.
    """

    hidden_size: int
    _: KW_ONLY
    keep_bias: float | Chrono = 0.0

    def __post_init__(self) -> None:
        check.positive(self, "hidden_size")
        check.gate_bias(self, "keep_bias")

    def init(self, key: Array, input_size: int) -> MUT3Params:
        n = self.hidden_size
        k_x, k_h, k_a, k_b = jax.random.split(key, 4)
        w_x = gates(glorot_uniform, k_x, (input_size, n), 3)
        w_h = gates(orthogonal, k_h, (n, n), 2)
        b_keep, _ = gate_biases(k_b, self.keep_bias, n)
        return MUT3Params(w_x, w_h, orthogonal(k_a, (n, n)), jnp.concatenate([-b_keep, jnp.zeros(2 * n)]))

    def initial_state(self, params, batch_shape=(), dtype=None) -> MUT3State:
        return MUT3State(*zeros(params, batch_shape, dtype, self.hidden_size))

    def project(self, params: MUT3Params, x: Array, key: Keys = None) -> Array:
        return affine(x, params.w_x, params.b)

    def gates(self, params: MUT3Params, state: MUT3State, z: Array) -> MUT3Gates:
        """Returns the gates and the candidate of a step, given the state before it."""
        x_z, x_r, x_a = jnp.split(z, 3, axis=-1)
        w_z, w_r = jnp.split(params.w_h, 2, axis=-1)
        update = sigmoid(x_z + tanh(state.h) @ w_z)
        r = sigmoid(x_r + state.h @ w_r)
        return MUT3Gates(update, r, tanh(x_a + (r * state.h) @ params.w_a))

    def step(self, params: MUT3Params, state: MUT3State, z: Array) -> MUT3State:
        update, _, a = self.gates(params, state, z)
        return MUT3State(h=update * a + (1 - update) * state.h)

    def readout(self, params: MUT3Params, state: MUT3State, z: Array) -> Array:
        return state.h
