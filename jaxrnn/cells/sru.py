"""Simple recurrent unit."""

from __future__ import annotations

import math
from dataclasses import KW_ONLY, dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from jaxrnn import _check as check
from jaxrnn.initializers import Chrono, gate_biases, gates, uniform
from jaxrnn.layer import Cell, Keys
from jaxrnn.ops import affine, align, as_features, sigmoid, zeros


class SRUParams(NamedTuple):
    w_x: Array  # [input, 3 * hidden] in the order c, f, r; [input, 4 * hidden] with x last if the sizes differ
    w_c: Array  # [2, hidden], v_f, v_r
    b: Array  # [2 * hidden], in the order f, r


class SRUState(NamedTuple):
    h: Array  # [*batch, hidden]
    c: Array  # [*batch, hidden]


class SRUInput(NamedTuple):
    c: Array  # [*batch, hidden]
    f: Array  # [*batch, hidden]
    r: Array  # [*batch, hidden]
    x: Array  # [*batch, hidden], what the highway carries


class SRUGates(NamedTuple):
    f: Array  # [*batch, hidden], forget gate
    r: Array  # gate of the highway


@dataclass(frozen=True)
class SRU(Cell):
    r"""Simple recurrent unit: each gate reads only its own entry of the memory, and a highway leads around the memory.

    All products with matrices read the input, so the loop has only elementwise operations. `QRNN` is similar, but its
    gates read only the input.

    .. math::
        f_t &= \sigma(W_f x_t + v_f \odot c_{t-1} + b_f) \\
        c_t &= f_t \odot c_{t-1} + (1 - f_t) \odot (W x_t) \\
        r_t &= \sigma(W_r x_t + v_r \odot c_{t-1} + b_r) \\
        h_t &= r_t \odot c_t + (1 - r_t) \odot \alpha x_t, \quad \alpha = \sqrt{1 + 2 e^{b}}

    The output is :math:`h_t`. In :math:`\alpha`, a constant that is not learned, :math:`b` is `highway_bias`. If the
    size of the input is not the hidden size, :math:`W_x x_t` replaces :math:`x_t` in the highway. The matrices are
    initially uniform with the variance 1 / input, as in the paper.

    Example:
      >>> cell = jaxrnn.SRU(hidden_size=64)
      >>> params = cell.init(jax.random.key(0), input_size=8)
      >>> state, ys = jaxrnn.unroll(cell, params, jnp.zeros((20, 32, 8)))  # [time, batch, input]
      >>> ys.shape, state.c.shape
      ((20, 32, 64), (32, 64))

    Args:
      hidden_size: Size of :math:`h` and :math:`c`.
      forget_bias: Initial value of :math:`b_f`: a number, or `Chrono(longest)`.
      highway_bias: Initial value :math:`b` of :math:`b_r`. Below zero, the highway carries more of the input at first.

    References:
      T. Lei, Y. Zhang, S. Wang, H. Dai, Y. Artzi, "Simple recurrent units for highly parallelizable recurrence", 2018.

    Deviations:
      The paper does not give the initial distribution of :math:`v`; here it is that of matrices that read `hidden_size`
      features.
    """

    hidden_size: int
    _: KW_ONLY
    forget_bias: float | Chrono = 0.0
    highway_bias: float = 0.0

    def __post_init__(self) -> None:
        check.positive(self, "hidden_size")
        check.gate_bias(self, "forget_bias")
        check.finite(self, "highway_bias")

    def init(self, key: Array, input_size: int) -> SRUParams:
        n = self.hidden_size
        k_x, k_c, k_b = jax.random.split(key, 3)
        w_x = gates(uniform((3 / input_size) ** 0.5), k_x, (input_size, n), 3 if input_size == n else 4)
        b_f, _ = gate_biases(k_b, self.forget_bias, n)
        b_r, _ = gate_biases(k_b, self.highway_bias, n)
        return SRUParams(w_x, uniform((3 / n) ** 0.5)(k_c, (2, n)), jnp.concatenate([b_f, b_r]))

    def initial_state(self, params, batch_shape=(), dtype=None) -> SRUState:
        return SRUState(*zeros(params, batch_shape, dtype, self.hidden_size, self.hidden_size))

    def project(self, params: SRUParams, x: Array, key: Keys = None) -> SRUInput:
        n = self.hidden_size
        c, f, r, *projected = jnp.split(affine(x, params.w_x), params.w_x.shape[-1] // n, axis=-1)
        if not projected:
            projected = [as_features(x, n, params.w_x.dtype)]
        b_f, b_r = align(jnp.split(params.b, 2), f)
        alpha = math.sqrt(1 + 2 * math.exp(self.highway_bias))
        return SRUInput(c, f + b_f, r + b_r, alpha * projected[0])

    def gates(self, params: SRUParams, state: SRUState, z: SRUInput) -> SRUGates:
        """Returns the gates of a step, given the state before it."""
        v_f, v_r = align(tuple(params.w_c), state.c)
        return SRUGates(sigmoid(z.f + v_f * state.c), sigmoid(z.r + v_r * state.c))

    def step(self, params: SRUParams, state: SRUState, z: SRUInput) -> SRUState:
        f, r = self.gates(params, state, z)
        c = f * state.c + (1 - f) * z.c
        return SRUState(h=r * c + (1 - r) * z.x, c=c)

    def readout(self, params: SRUParams, state: SRUState, z: SRUInput) -> Array:
        return state.h
