"""Strongly-typed gated recurrent unit."""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from jaxrnn import _check as check
from jaxrnn.initializers import Chrono, gate_biases, gates, glorot_uniform
from jaxrnn.layer import Cell, Keys
from jaxrnn.ops import affine, sigmoid, tanh, zeros


class TGRUParams(NamedTuple):
    w_x: Array  # [input, 3 * hidden], in the order z, f, o
    v_x: Array  # [input, 3 * hidden], from the previous input, in the same order
    b: Array  # [3 * hidden]


class TGRUState(NamedTuple):
    h: Array  # [*batch, hidden]
    before: Array  # [*batch, 3 * hidden], the last input times V


class TGRUGates(NamedTuple):
    z: Array  # [*batch, hidden], candidate
    f: Array  # forget gate
    o: Array  # output gate


@dataclass(frozen=True)
class TGRU(Cell):
    r"""Strongly-typed gated recurrent unit: the gates read the current and the previous input, never the state.

    The recurrence is linear in the state. The state also stores :math:`V x_{t-1}`, so the loop has no product with a
    matrix. `TRNN` and `TLSTM` are of the same family.

    .. math::
        z_t &= V_z x_{t-1} + W_z x_t + b_z \\
        f_t &= \sigma(V_f x_{t-1} + W_f x_t + b_f) \\
        o_t &= \tanh(V_o x_{t-1} + W_o x_t + b_o) \\
        h_t &= f_t \odot h_{t-1} + z_t \odot o_t

    with :math:`x_0 = 0`. The output is :math:`h_t`, linear in :math:`h_{t-1}`.

    Example:
      >>> cell = jaxrnn.TGRU(hidden_size=64)
      >>> params = cell.init(jax.random.key(0), input_size=8)
      >>> state, ys = jaxrnn.unroll(cell, params, jnp.zeros((20, 32, 8)))  # [time, batch, input]
      >>> ys.shape, state.before.shape
      ((20, 32, 64), (32, 192))

    Args:
      hidden_size: Size of :math:`h`.
      forget_bias: Initial value of :math:`b_f`: a number, or `Chrono(longest)`. Above zero the state lasts longer.

    References:
      D. Balduzzi, M. Ghifary, "Strongly-typed recurrent neural networks", 2016.
    """

    hidden_size: int
    _: KW_ONLY
    forget_bias: float | Chrono = 1.0

    def __post_init__(self) -> None:
        check.positive(self, "hidden_size")
        check.gate_bias(self, "forget_bias")

    def init(self, key: Array, input_size: int) -> TGRUParams:
        n = self.hidden_size
        k_x, k_v, k_b = jax.random.split(key, 3)
        w_x, v_x = (gates(glorot_uniform, k, (input_size, n), 3) for k in (k_x, k_v))
        b_f, _ = gate_biases(k_b, self.forget_bias, n)
        return TGRUParams(w_x, v_x, jnp.concatenate([jnp.zeros(n), b_f, jnp.zeros(n)]))

    def initial_state(self, params, batch_shape=(), dtype=None) -> TGRUState:
        return TGRUState(*zeros(params, batch_shape, dtype, self.hidden_size, 3 * self.hidden_size))

    def project(self, params: TGRUParams, x: Array, key: Keys = None) -> tuple[Array, Array]:
        return affine(x, params.w_x, params.b), affine(x, params.v_x)

    def gates(self, params: TGRUParams, state: TGRUState, z: tuple[Array, Array]) -> TGRUGates:
        """Returns the gates and the candidate of a step, given the state before it."""
        now, _ = z
        value, f, o = jnp.split(state.before + now, 3, axis=-1)
        return TGRUGates(value, sigmoid(f), tanh(o))

    def step(self, params: TGRUParams, state: TGRUState, z: tuple[Array, Array]) -> TGRUState:
        _, before = z
        value, f, o = self.gates(params, state, z)
        return TGRUState(h=f * state.h + value * o, before=before)

    def readout(self, params: TGRUParams, state: TGRUState, z: tuple[Array, Array]) -> Array:
        return state.h
