"""Light gated recurrent unit."""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from jaxrnn import _check as check
from jaxrnn.initializers import Chrono, gate_biases, gates, glorot_uniform, orthogonal
from jaxrnn.layer import Cell, Keys
from jaxrnn.ops import affine, sigmoid, zeros


class LiGRUParams(NamedTuple):
    w_x: Array  # [input, 2 * hidden], gates in the order z, a
    w_h: Array  # [hidden, 2 * hidden]
    b: Array  # [2 * hidden]


class LiGRUState(NamedTuple):
    h: Array  # [*batch, hidden]


class LiGRUGates(NamedTuple):
    z: Array  # [*batch, hidden], update gate
    a: Array  # candidate


@dataclass(frozen=True)
class LiGRU(Cell):
    r"""Light gated recurrent unit (Li-GRU): no reset gate, and a candidate with ReLU.

    The paper developed it for speech recognition. Its matrices have two thirds of the weights of a `GRU`'s.

    .. math::
        z_t &= \sigma(W_z x_t + R_z h_{t-1} + b_z) \\
        a_t &= \mathrm{ReLU}(W_a x_t + R_a h_{t-1} + b_a) \\
        h_t &= z_t \odot h_{t-1} + (1 - z_t) \odot a_t

    The output is :math:`h_t`, which is not bounded.

    Example:
      >>> cell = jaxrnn.LiGRU(hidden_size=64)
      >>> params = cell.init(jax.random.key(0), input_size=8)
      >>> state, ys = jaxrnn.unroll(cell, params, jnp.zeros((20, 4, 8)))  # [time, batch, input]
      >>> ys.shape
      (20, 4, 64)

    Args:
      hidden_size: Size of :math:`h`.
      update_bias: Initial value of :math:`b_z`: a number, or `Chrono(longest)`. Above zero the state lasts longer.

    References:
      M. Ravanelli, P. Brakel, M. Omologo, Y. Bengio, "Light gated recurrent units for speech recognition", 2018.

    Deviations:
      The paper's batch normalization of :math:`W_z x_t` and :math:`W_a x_t` is left out, and the biases take the place
      of its shifts.
    """

    hidden_size: int
    _: KW_ONLY
    update_bias: float | Chrono = 0.0

    def __post_init__(self) -> None:
        check.positive(self, "hidden_size")
        check.gate_bias(self, "update_bias")

    def init(self, key: Array, input_size: int) -> LiGRUParams:
        n = self.hidden_size
        k_x, k_h, k_b = jax.random.split(key, 3)
        w_x = gates(glorot_uniform, k_x, (input_size, n), 2)
        w_h = gates(orthogonal, k_h, (n, n), 2)
        b_z, _ = gate_biases(k_b, self.update_bias, n)
        return LiGRUParams(w_x, w_h, jnp.concatenate([b_z, jnp.zeros(n)]))

    def initial_state(self, params, batch_shape=(), dtype=None) -> LiGRUState:
        return LiGRUState(*zeros(params, batch_shape, dtype, self.hidden_size))

    def project(self, params: LiGRUParams, x: Array, key: Keys = None) -> Array:
        return affine(x, params.w_x, params.b)

    def gates(self, params: LiGRUParams, state: LiGRUState, z: Array) -> LiGRUGates:
        """Returns the gates and the candidate of a step, given the state before it."""
        update, a = jnp.split(z + state.h @ params.w_h, 2, axis=-1)
        return LiGRUGates(sigmoid(update), jax.nn.relu(a))

    def step(self, params: LiGRUParams, state: LiGRUState, z: Array) -> LiGRUState:
        update, a = self.gates(params, state, z)
        return LiGRUState(h=update * state.h + (1 - update) * a)

    def readout(self, params: LiGRUParams, state: LiGRUState, z: Array) -> Array:
        return state.h
