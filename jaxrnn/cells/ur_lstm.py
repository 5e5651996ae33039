"""Long short-term memory with refined gates and uniform gate initialization."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from jaxrnn import _check as check
from jaxrnn.initializers import gates, glorot_uniform, orthogonal
from jaxrnn.layer import Cell, Keys
from jaxrnn.ops import affine, sigmoid, tanh, zeros


class URLSTMParams(NamedTuple):
    w_x: Array  # [input, 4 * hidden], gates in the order f, r, u, o
    w_h: Array  # [hidden, 4 * hidden]
    b_f: Array  # [hidden], added to f and subtracted from r
    b: Array  # [2 * hidden], in the order u, o


class URLSTMState(NamedTuple):
    h: Array  # [*batch, hidden]
    c: Array  # [*batch, hidden]


class URLSTMGates(NamedTuple):
    f: Array  # [*batch, hidden], forget gate
    r: Array  # refine gate
    u: Array  # candidate
    o: Array  # output gate


@dataclass(frozen=True)
class URLSTM(Cell):
    r"""Long short-term memory whose forget gate is refined by a second gate and initially covers all time scales.

    There is no forget bias to choose: initially, :math:`\sigma(b_f)` is uniform on :math:`[1/n, 1 - 1/n]`, where n is
    the hidden size (2 if that is 1). The refining gate :math:`r_t` moves the forget gate towards 0 or 1.

    .. math::
        f_t &= \sigma(W_f x_t + R_f h_{t-1} + b_f) \\
        r_t &= \sigma(W_r x_t + R_r h_{t-1} - b_f) \\
        e_t &= r_t \odot (1 - (1 - f_t)^2) + (1 - r_t) \odot f_t^2 \\
        u_t &= \tanh(W_u x_t + R_u h_{t-1} + b_u) \\
        o_t &= \sigma(W_o x_t + R_o h_{t-1} + b_o) \\
        c_t &= e_t \odot c_{t-1} + (1 - e_t) \odot u_t \\
        h_t &= o_t \odot \tanh(c_t)

    The output is :math:`h_t`.

    Example:
      >>> cell = jaxrnn.URLSTM(hidden_size=64)
      >>> params = cell.init(jax.random.key(0), input_size=8)
      >>> state, ys = jaxrnn.unroll(cell, params, jnp.zeros((20, 32, 8)))  # [time, batch, input]
      >>> ys.shape, state.c.shape
      ((20, 32, 64), (32, 64))

    Args:
      hidden_size: Size of :math:`h` and :math:`c`.

    References:
      A. Gu, C. Gulcehre, T. Paine, M. Hoffman, R. Pascanu, "Improving the gating mechanism of recurrent neural
      networks", 2020.
    """

    hidden_size: int

    def __post_init__(self) -> None:
        check.positive(self, "hidden_size")

    def init(self, key: Array, input_size: int) -> URLSTMParams:
        n = self.hidden_size
        k_x, k_h, k_b = jax.random.split(key, 3)
        w_x = gates(glorot_uniform, k_x, (input_size, n), 4)
        w_h = gates(orthogonal, k_h, (n, n), 4)
        m = max(n, 2)
        f = jax.random.uniform(k_b, (n,), minval=1 / m, maxval=1 - 1 / m)
        return URLSTMParams(w_x, w_h, jnp.log(f / (1 - f)), jnp.zeros(2 * n))

    def initial_state(self, params, batch_shape=(), dtype=None) -> URLSTMState:
        return URLSTMState(*zeros(params, batch_shape, dtype, self.hidden_size, self.hidden_size))

    def project(self, params: URLSTMParams, x: Array, key: Keys = None) -> Array:
        return affine(x, params.w_x, jnp.concatenate([params.b_f, -params.b_f, params.b]))

    def gates(self, params: URLSTMParams, state: URLSTMState, z: Array) -> URLSTMGates:
        """Returns the gates and the candidate of a step, given the state before it."""
        f, r, u, o = jnp.split(z + state.h @ params.w_h, 4, axis=-1)
        return URLSTMGates(sigmoid(f), sigmoid(r), tanh(u), sigmoid(o))

    def step(self, params: URLSTMParams, state: URLSTMState, z: Array) -> URLSTMState:
        f, r, u, o = self.gates(params, state, z)
        e = r * (1 - (1 - f) ** 2) + (1 - r) * f**2
        c = e * state.c + (1 - e) * u
        return URLSTMState(h=o * tanh(c), c=c)

    def readout(self, params: URLSTMParams, state: URLSTMState, z: Array) -> Array:
        return state.h
