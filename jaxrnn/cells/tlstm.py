"""Strongly-typed long short-term memory."""

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


class TLSTMParams(NamedTuple):
    w_x: Array  # [input, 3 * hidden], in the order z, f, o
    v_x: Array  # [input, 3 * hidden], from the previous input, in the same order
    b: Array  # [3 * hidden]


class TLSTMState(NamedTuple):
    h: Array  # [*batch, hidden], the output, which later steps do not read
    c: Array  # [*batch, hidden]
    before: Array  # [*batch, 3 * hidden], the last input times V


class TLSTMGates(NamedTuple):
    z: Array  # [*batch, hidden], candidate
    f: Array  # forget gate
    o: Array  # output gate


@dataclass(frozen=True)
class TLSTM(Cell):
    r"""Strongly-typed long short-term memory: the gates read the current and the previous input, never the state.

    The recurrence is linear in the memory. The state also stores :math:`V x_{t-1}`, so the loop has no product with a
    matrix. `TRNN` and `TGRU` are of the same family.

    .. math::
        z_t &= V_z x_{t-1} + W_z x_t + b_z \\
        f_t &= \sigma(V_f x_{t-1} + W_f x_t + b_f) \\
        o_t &= \tanh(V_o x_{t-1} + W_o x_t + b_o) \\
        c_t &= f_t \odot c_{t-1} + (1 - f_t) \odot z_t \\
        h_t &= c_t \odot o_t

    with :math:`x_0 = 0`. The output is :math:`h_t`, linear in :math:`c_{t-1}`.

    Example:
      >>> cell = jaxrnn.TLSTM(hidden_size=64)
      >>> params = cell.init(jax.random.key(0), input_size=8)
      >>> state, ys = jaxrnn.unroll(cell, params, jnp.zeros((20, 32, 8)))  # [time, batch, input]
      >>> ys.shape, state.before.shape
      ((20, 32, 64), (32, 192))

    Args:
      hidden_size: Size of :math:`h` and :math:`c`.
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

    def init(self, key: Array, input_size: int) -> TLSTMParams:
        n = self.hidden_size
        k_x, k_v, k_b = jax.random.split(key, 3)
        w_x, v_x = (gates(glorot_uniform, k, (input_size, n), 3) for k in (k_x, k_v))
        b_f, _ = gate_biases(k_b, self.forget_bias, n)
        return TLSTMParams(w_x, v_x, jnp.concatenate([jnp.zeros(n), b_f, jnp.zeros(n)]))

    def initial_state(self, params, batch_shape=(), dtype=None) -> TLSTMState:
        n = self.hidden_size
        return TLSTMState(*zeros(params, batch_shape, dtype, n, n, 3 * n))

    def project(self, params: TLSTMParams, x: Array, key: Keys = None) -> tuple[Array, Array]:
        return affine(x, params.w_x, params.b), affine(x, params.v_x)

    def gates(self, params: TLSTMParams, state: TLSTMState, z: tuple[Array, Array]) -> TLSTMGates:
        """Returns the gates and the candidate of a step, given the state before it."""
        now, _ = z
        value, f, o = jnp.split(state.before + now, 3, axis=-1)
        return TLSTMGates(value, sigmoid(f), tanh(o))

    def step(self, params: TLSTMParams, state: TLSTMState, z: tuple[Array, Array]) -> TLSTMState:
        _, before = z
        value, f, o = self.gates(params, state, z)
        c = f * state.c + (1 - f) * value
        return TLSTMState(h=c * o, c=c, before=before)

    def readout(self, params: TLSTMParams, state: TLSTMState, z: tuple[Array, Array]) -> Array:
        return state.h
