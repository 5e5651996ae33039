"""First of three units found by a search over mutations (MUT1)."""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from jaxrnn import _check as check
from jaxrnn.initializers import Chrono, gate_biases, gates, glorot_uniform, orthogonal
from jaxrnn.layer import Cell, Keys
from jaxrnn.ops import affine, align, as_features, sigmoid, tanh, zeros


class MUT1Params(NamedTuple):
    w_x: Array  # [input, 2 * hidden], gates in the order z, r
    w_h: Array  # [hidden, hidden], for the gate r
    w_a: Array  # [hidden, hidden], for the candidate a
    b: Array  # [3 * hidden], in the order z, r, a


class MUT1State(NamedTuple):
    h: Array  # [*batch, hidden]


class MUT1Gates(NamedTuple):
    z: Array  # [*batch, hidden], update gate
    r: Array  # reset gate
    a: Array  # candidate


@dataclass(frozen=True)
class MUT1(Cell):
    r"""First of three units found by a search over mutations: its update gate sees only the input.

    The unit resembles a gated recurrent unit. The candidate adds :math:`\tanh(x_t)` without a matrix, so the input size
    must be the hidden size. `MUT2` and `MUT3` are the other two.

    .. math::
        z_t &= \sigma(W_z x_t + b_z) \\
        r_t &= \sigma(W_r x_t + R_r h_{t-1} + b_r) \\
        a_t &= \tanh(R_a (r_t \odot h_{t-1}) + \tanh(x_t) + b_a) \\
        h_t &= z_t \odot a_t + (1 - z_t) \odot h_{t-1}

    The output is :math:`h_t`.

    Example:
      >>> cell = jaxrnn.MUT1(hidden_size=64)
      >>> params = cell.init(jax.random.key(0), input_size=64)  # the hidden size
      >>> state, ys = jaxrnn.unroll(cell, params, jnp.zeros((20, 32, 64)))  # [time, batch, input]
      >>> ys.shape
      (20, 32, 64)

    Args:
      hidden_size: Size of :math:`h` and of the input.
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

    def init(self, key: Array, input_size: int) -> MUT1Params:
        n = self.hidden_size
        check.unmixed_input_size(self, input_size, n)
        k_x, k_h, k_a, k_b = jax.random.split(key, 4)
        w_x = gates(glorot_uniform, k_x, (input_size, n), 2)
        w_h = orthogonal(k_h, (n, n))
        b_keep, _ = gate_biases(k_b, self.keep_bias, n)
        return MUT1Params(w_x, w_h, orthogonal(k_a, (n, n)), jnp.concatenate([-b_keep, jnp.zeros(2 * n)]))

    def initial_state(self, params, batch_shape=(), dtype=None) -> MUT1State:
        return MUT1State(*zeros(params, batch_shape, dtype, self.hidden_size))

    def project(self, params: MUT1Params, x: Array, key: Keys = None) -> Array:
        x_z, x_r = jnp.split(affine(x, params.w_x), 2, axis=-1)
        b_z, b_r, b_a = align(jnp.split(params.b, 3), x_z)
        x = as_features(x, params.w_x.shape[0], params.w_x.dtype)
        return jnp.concatenate([sigmoid(x_z + b_z), x_r + b_r, tanh(x) + b_a], axis=-1)

    def gates(self, params: MUT1Params, state: MUT1State, z: Array) -> MUT1Gates:
        """Returns the gates and the candidate of a step, given the state before it."""
        update, x_r, x_a = jnp.split(z, 3, axis=-1)
        r = sigmoid(x_r + state.h @ params.w_h)
        return MUT1Gates(update, r, tanh(x_a + (r * state.h) @ params.w_a))

    def step(self, params: MUT1Params, state: MUT1State, z: Array) -> MUT1State:
        update, _, a = self.gates(params, state, z)
        return MUT1State(h=update * a + (1 - update) * state.h)

    def readout(self, params: MUT1Params, state: MUT1State, z: Array) -> Array:
        return state.h
