"""LSTM in independent groups."""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array
from jax.scipy.linalg import block_diag

from jaxrnn import _check as check
from jaxrnn.initializers import Chrono, gate_biases, gates, glorot_uniform, orthogonal
from jaxrnn.layer import Cell, Keys
from jaxrnn.ops import affine, align, in_groups, is_symbols, side_by_side, sigmoid, tanh, zeros


class GroupLSTMParams(NamedTuple):
    w_x: Array  # [groups, input / groups, 4 * hidden / groups], each group's gates in the order i, f, g, o
    w_h: Array  # [groups, hidden / groups, 4 * hidden / groups]
    b: Array  # [groups, 4 * hidden / groups]


class GroupLSTMState(NamedTuple):
    h: Array  # [*batch, hidden]
    c: Array  # [*batch, hidden]


class GroupLSTMGates(NamedTuple):
    i: Array  # [*batch, hidden], input gate
    f: Array  # forget gate
    g: Array  # candidate
    o: Array  # output gate


@dataclass(frozen=True)
class GroupLSTM(Cell):
    r"""Group LSTM (G-LSTM): an LSTM in groups, each of which reads its own part of the input and of the state.

    With :math:`K` groups, the matrices have :math:`1 / K` of the weights of an `LSTM`'s. The cell passes no information
    between groups, which is left to other layers.

    .. math::
        (i^k_t, f^k_t, g^k_t, o^k_t) &= (\sigma, \sigma, \tanh, \sigma)
        (W^k x^k_t + R^k h^k_{t-1} + b^k), \quad k = 1, \dots, K \\
        c^k_t &= f^k_t \odot c^k_{t-1} + i^k_t \odot g^k_t \\
        h^k_t &= o^k_t \odot \tanh(c^k_t)

    where :math:`x_t`, :math:`h_t` and :math:`c_t` are split into :math:`K` equal parts. The output is :math:`h_t`.

    Example:
      >>> cell = jaxrnn.GroupLSTM(hidden_size=32, num_groups=4)
      >>> params = cell.init(jax.random.key(0), input_size=8)
      >>> state, ys = jaxrnn.unroll(cell, params, jnp.zeros((20, 4, 8)))  # [time, batch, input]
      >>> ys.shape
      (20, 4, 32)
      >>> params.w_h.size, jaxrnn.LSTM(32).init(jax.random.key(0), 8).w_h.size
      (1024, 4096)

    Args:
      hidden_size: Size of :math:`h` and :math:`c`.
      num_groups: Number of groups, :math:`K`. It divides the hidden size and the input size.
      forget_bias: Initial value of :math:`b_f`: a number, or `Chrono(longest)`, which also sets :math:`b_i`.

    References:
      O. Kuchaiev, B. Ginsburg, "Factorization tricks for LSTM networks", 2017.

    Deviations:
      The projection of :math:`h_t` is left out.
    """

    hidden_size: int
    _: KW_ONLY
    num_groups: int = 1
    forget_bias: float | Chrono = 1.0

    def __post_init__(self) -> None:
        check.positive(self, "hidden_size")
        check.divides(self, "num_groups", "hidden_size")
        check.gate_bias(self, "forget_bias")

    def init(self, key: Array, input_size: int) -> GroupLSTMParams:
        if input_size % self.num_groups:
            raise ValueError(
                f"GroupLSTM's num_groups must divide its input size, {input_size}, but it is {self.num_groups}"
            )
        n = self.hidden_size // self.num_groups

        def group(key: Array) -> GroupLSTMParams:
            k_x, k_h, k_b = jax.random.split(key, 3)
            w_x = gates(glorot_uniform, k_x, (input_size // self.num_groups, n), 4)
            b_f, b_i = gate_biases(k_b, self.forget_bias, n)
            b = jnp.concatenate([b_i, b_f, jnp.zeros(2 * n)])
            return GroupLSTMParams(w_x, gates(orthogonal, k_h, (n, n), 4), b)

        groups = [group(key) for key in jax.random.split(key, self.num_groups)]
        return jax.tree.map(lambda *leaves: jnp.stack(leaves), *groups)

    def initial_state(self, params, batch_shape=(), dtype=None) -> GroupLSTMState:
        return GroupLSTMState(*zeros(params, batch_shape, dtype, self.hidden_size, self.hidden_size))

    def project(self, params: GroupLSTMParams, x: Array, key: Keys = None) -> Array:
        groups, size, _ = params.w_x.shape
        if is_symbols(x) or x.shape[-1:] != (groups * size,):  # rows of the full matrix, or the error of `affine`
            z = in_groups(affine(x, block_diag(*params.w_x)), groups)
        else:
            z = jnp.einsum("...ka,kab->...kb", in_groups(x, groups), params.w_x)
        return z + align(params.b, z)

    def gates(self, params: GroupLSTMParams, state: GroupLSTMState, z: Array) -> GroupLSTMGates:
        """Returns the gates and the candidate of a step, given the state before it."""
        h = in_groups(state.h, self.num_groups)
        parts = jnp.split(z + jnp.einsum("...ka,kab->...kb", h, params.w_h), 4, axis=-1)
        i, f, g, o = (side_by_side(part) for part in parts)
        return GroupLSTMGates(sigmoid(i), sigmoid(f), tanh(g), sigmoid(o))

    def step(self, params: GroupLSTMParams, state: GroupLSTMState, z: Array) -> GroupLSTMState:
        i, f, g, o = self.gates(params, state, z)
        c = f * state.c + i * g
        return GroupLSTMState(h=o * tanh(c), c=c)

    def readout(self, params: GroupLSTMParams, state: GroupLSTMState, z: Array) -> Array:
        return state.h
