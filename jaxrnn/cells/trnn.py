"""Strongly-typed recurrent network."""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from jaxrnn import _check as check
from jaxrnn.initializers import Chrono, gate_biases, gates, glorot_uniform
from jaxrnn.layer import Keys, LinearCell
from jaxrnn.ops import affine, align, sigmoid, zeros


class TRNNParams(NamedTuple):
    w_x: Array  # [input, 2 * hidden], in the order z, f
    b: Array  # [hidden], for f


class TRNNState(NamedTuple):
    h: Array  # [*batch, hidden]


@dataclass(frozen=True)
class TRNN(LinearCell):
    r"""Strongly-typed recurrent network: a running average of a linear map of the inputs, gated by the inputs.

    The gate and the linear map do not read the state, so all steps can run in parallel with
    `jaxrnn.loops.AssociativeScan`. `MinGRU` has the same equations with a gate of the opposite sense and a bias in the
    linear map.

    .. math::
        z_t &= W x_t \\
        f_t &= \sigma(V x_t + b) \\
        h_t &= f_t \odot h_{t-1} + (1 - f_t) \odot z_t

    The output is :math:`h_t`, linear in the state.

    Example:
      >>> cell = jaxrnn.TRNN(hidden_size=64)
      >>> params = cell.init(jax.random.key(0), input_size=8)
      >>> xs = jnp.zeros((20, 32, 8))  # [time, batch, input]
      >>> state, ys = jaxrnn.unroll(cell, params, xs, loop=jaxrnn.loops.AssociativeScan())
      >>> ys.shape
      (20, 32, 64)

    Args:
      hidden_size: Size of :math:`h`.
      forget_bias: Initial value of :math:`b`: a number, or `Chrono(longest)`. Above zero the state lasts longer.

    References:
      D. Balduzzi, M. Ghifary, "Strongly-typed recurrent neural networks", 2016.
    """

    hidden_size: int
    _: KW_ONLY
    forget_bias: float | Chrono = 1.0

    def __post_init__(self) -> None:
        check.positive(self, "hidden_size")
        check.gate_bias(self, "forget_bias")

    def init(self, key: Array, input_size: int) -> TRNNParams:
        k_x, k_b = jax.random.split(key)
        b_f, _ = gate_biases(k_b, self.forget_bias, self.hidden_size)
        return TRNNParams(gates(glorot_uniform, k_x, (input_size, self.hidden_size), 2), b_f)

    def initial_state(self, params, batch_shape=(), dtype=None) -> TRNNState:
        return TRNNState(*zeros(params, batch_shape, dtype, self.hidden_size))

    def project(self, params: TRNNParams, x: Array, key: Keys = None) -> tuple[Array, Array]:
        z, f = jnp.split(affine(x, params.w_x), 2, axis=-1)
        return z, sigmoid(f + align(params.b, f))

    def coefficients(self, params: TRNNParams, z: tuple[Array, Array]) -> tuple[TRNNState, TRNNState]:
        value, f = z
        return TRNNState(h=f), TRNNState(h=(1 - f) * value)

    def readout(self, params: TRNNParams, state: TRNNState, z: tuple[Array, Array]) -> Array:
        return state.h
