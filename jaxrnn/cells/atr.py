"""Addition-subtraction twin-gated recurrent network."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import jax
from jax import Array

from jaxrnn import _check as check
from jaxrnn.initializers import glorot_uniform, orthogonal
from jaxrnn.layer import Cell, Keys
from jaxrnn.ops import affine, sigmoid, zeros


class ATRParams(NamedTuple):
    w_x: Array  # [input, hidden]
    w_h: Array  # [hidden, hidden]


class ATRState(NamedTuple):
    h: Array  # [*batch, hidden]


class ATRGates(NamedTuple):
    i: Array  # [*batch, hidden], input gate
    f: Array  # forget gate


@dataclass(frozen=True)
class ATR(Cell):
    r"""Addition-subtraction twin-gated recurrent network: two gates from one sum and one difference.

    Both gates are made of the same two products, so the cell has only two matrices, as many as `Elman`. It has no
    biases, and nothing bounds its state.

    .. math::
        p_t &= W x_t \\
        q_t &= R h_{t-1} \\
        i_t &= \sigma(p_t + q_t) \\
        f_t &= \sigma(p_t - q_t) \\
        h_t &= i_t \odot p_t + f_t \odot h_{t-1}

    The output is :math:`h_t`.

    Example:
      >>> cell = jaxrnn.ATR(hidden_size=32)
      >>> params = cell.init(jax.random.key(0), input_size=8)
      >>> jax.tree.map(jnp.shape, params)
      ATRParams(w_x=(8, 32), w_h=(32, 32))
      >>> state, ys = jaxrnn.unroll(cell, params, jnp.zeros((20, 4, 8)))  # [time, batch, input]
      >>> ys.shape
      (20, 4, 32)

    Args:
      hidden_size: Size of :math:`h`.

    References:
      B. Zhang, D. Xiong, J. Su, Q. Lin, H. Zhang, "Simplifying neural machine translation with addition-subtraction
      twin-gated recurrent networks", 2018.
    """

    hidden_size: int

    def __post_init__(self) -> None:
        check.positive(self, "hidden_size")

    def init(self, key: Array, input_size: int) -> ATRParams:
        n = self.hidden_size
        k_x, k_h = jax.random.split(key)
        return ATRParams(glorot_uniform(k_x, (input_size, n)), orthogonal(k_h, (n, n)))

    def initial_state(self, params, batch_shape=(), dtype=None) -> ATRState:
        return ATRState(*zeros(params, batch_shape, dtype, self.hidden_size))

    def project(self, params: ATRParams, x: Array, key: Keys = None) -> Array:
        return affine(x, params.w_x)

    def gates(self, params: ATRParams, state: ATRState, z: Array) -> ATRGates:
        """Returns the gates of a step, given the state before it."""
        q = state.h @ params.w_h
        return ATRGates(sigmoid(z + q), sigmoid(z - q))

    def step(self, params: ATRParams, state: ATRState, z: Array) -> ATRState:
        i, f = self.gates(params, state, z)
        return ATRState(h=i * z + f * state.h)

    def readout(self, params: ATRParams, state: ATRState, z: Array) -> Array:
        return state.h
