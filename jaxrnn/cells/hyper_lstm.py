"""LSTM with weights scaled by a smaller LSTM."""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from jaxrnn import _check as check
from jaxrnn.initializers import Chrono, gate_biases, gates, glorot_uniform, orthogonal
from jaxrnn.layer import Cell, Keys
from jaxrnn.ops import affine, align, in_groups, side_by_side, sigmoid, tanh, zeros


class HyperLSTMParams(NamedTuple):
    w_x: Array  # [input, 4 * hidden], gates in the order i, f, g, o, as in all arrays
    w_h: Array  # [hidden, 4 * hidden]
    b: Array  # [4 * hidden]
    hyper_w_x: Array  # [input, 4 * hyper], of the smaller LSTM
    hyper_w_h: Array  # [hidden + hyper, 4 * hyper], from both hidden states
    hyper_b: Array  # [4 * hyper]
    w_z: Array  # [hyper, 12 * embedding], features in the order h, x, b; each has one vector per gate
    b_z: Array  # [8 * embedding], of h and x
    w_d: Array  # [12, embedding, hidden], one matrix per feature vector


class HyperLSTMState(NamedTuple):
    h: Array  # [*batch, hidden]
    c: Array  # [*batch, hidden]
    hyper_h: Array  # [*batch, hyper]
    hyper_c: Array  # [*batch, hyper]


@dataclass(frozen=True)
class HyperLSTM(Cell):
    r"""HyperLSTM: an LSTM whose weights change at every step, scaled by a smaller LSTM.

    The smaller LSTM, which has the equations of `LSTM`, reads the input and the output of the main LSTM. From its new
    state, the cell computes the biases of the main LSTM and factors for the rows of its matrices.

    .. math::
        \hat h_t, \hat c_t &= \mathrm{LSTM}((x_t, h_{t-1}), \hat h_{t-1}, \hat c_{t-1}) \\
        d_h^y &= D_h^y (Z_h^y \hat h_t + e_h^y), \quad d_x^y = D_x^y (Z_x^y \hat h_t + e_x^y), \quad
            d_b^y = D_b^y Z_b^y \hat h_t + b^y \\
        y_t &= d_h^y \odot R^y h_{t-1} + d_x^y \odot W^y x_t + d_b^y, \quad y \in \{i, f, g, o\} \\
        c_t &= \sigma(f_t) \odot c_{t-1} + \sigma(i_t) \odot \tanh(g_t) \\
        h_t &= \sigma(o_t) \odot \tanh(c_t)

    The output is :math:`h_t`.

    Example:
      >>> cell = jaxrnn.HyperLSTM(hidden_size=32, hyper_size=8, embedding_size=4)
      >>> params = cell.init(jax.random.key(0), input_size=8)
      >>> state, ys = jaxrnn.unroll(cell, params, jnp.zeros((20, 4, 8)))  # [time, batch, input]
      >>> ys.shape, state.hyper_h.shape
      ((20, 4, 32), (4, 8))

    Args:
      hidden_size: Size of :math:`h` and :math:`c`.
      hyper_size: Size of :math:`\hat h` and :math:`\hat c`.
      embedding_size: Size of the feature vectors from which the scales are computed, :math:`Z \hat h_t + e`.
      forget_bias: Initial value of the forget gate's bias in both LSTMs: a number, or `Chrono(longest)`, which also
        sets the input gate's bias.

    References:
      D. Ha, A. Dai, Q. Le, "HyperNetworks", 2016, appendix A.2.

    Deviations:
      The layer normalization, which is optional in the paper, is left out. The scales are computed from the new
      state of the smaller LSTM, as in the authors' code. :math:`D_b` is initialized to small random numbers instead of
      zeros, so that :math:`Z_b` has a gradient from the start.
    """

    hidden_size: int
    hyper_size: int
    embedding_size: int
    _: KW_ONLY
    forget_bias: float | Chrono = 1.0

    def __post_init__(self) -> None:
        check.positive(self, "hidden_size", "hyper_size", "embedding_size")
        check.gate_bias(self, "forget_bias")

    def init(self, key: Array, input_size: int) -> HyperLSTMParams:
        n, m, e = self.hidden_size, self.hyper_size, self.embedding_size
        k_x, k_h, k_b, k_hx, k_hh, k_hm, k_hb, k_z, k_d = jax.random.split(key, 9)
        w_x = gates(glorot_uniform, k_x, (input_size, n), 4)
        w_h = gates(orthogonal, k_h, (n, n), 4)
        hyper_w_x = gates(glorot_uniform, k_hx, (input_size, m), 4)
        hyper_w_h = jnp.concatenate([gates(glorot_uniform, k_hh, (n, m), 4), gates(orthogonal, k_hm, (m, m), 4)])
        b_f, b_i = gate_biases(k_b, self.forget_bias, n)
        b = jnp.concatenate([b_i, b_f, jnp.zeros(2 * n)])
        b_f, b_i = gate_biases(k_hb, self.forget_bias, m)
        hyper_b = jnp.concatenate([b_i, b_f, jnp.zeros(2 * m)])
        w_z = 0.01 * jax.random.normal(k_z, (m, 12 * e))
        w_d = jnp.concatenate([jnp.full((8, e, n), 0.1 / e), 0.01 * jax.random.normal(k_d, (4, e, n))])
        return HyperLSTMParams(w_x, w_h, b, hyper_w_x, hyper_w_h, hyper_b, w_z, jnp.ones(8 * e), w_d)

    def initial_state(self, params, batch_shape=(), dtype=None) -> HyperLSTMState:
        n, m = self.hidden_size, self.hyper_size
        return HyperLSTMState(*zeros(params, batch_shape, dtype, n, n, m, m))

    def project(self, params: HyperLSTMParams, x: Array, key: Keys = None) -> tuple[Array, Array]:
        return affine(x, params.w_x), affine(x, params.hyper_w_x, params.hyper_b)

    def step(self, params: HyperLSTMParams, state: HyperLSTMState, z: tuple[Array, Array]) -> HyperLSTMState:
        x_main, x_hyper = z
        both = jnp.concatenate([state.h, state.hyper_h], axis=-1)
        hyper_h, hyper_c = _lstm(x_hyper + both @ params.hyper_w_h, state.hyper_c)
        b_z = jnp.concatenate([params.b_z, jnp.zeros(4 * self.embedding_size, params.b_z.dtype)])
        features = in_groups(affine(hyper_h, params.w_z, b_z), 12)
        scales = jnp.einsum("...ke,ken->...kn", features, params.w_d)
        d_h, d_x, d_b = jnp.split(side_by_side(scales), 3, axis=-1)
        h, c = _lstm(d_h * (state.h @ params.w_h) + d_x * x_main + d_b + align(params.b, d_b), state.c)
        return HyperLSTMState(h, c, hyper_h, hyper_c)

    def readout(self, params: HyperLSTMParams, state: HyperLSTMState, z: tuple[Array, Array]) -> Array:
        return state.h


def _lstm(a: Array, c: Array) -> tuple[Array, Array]:
    """Returns the new `h` and `c` of an LSTM, given the sums of its four gates."""
    i, f, g, o = jnp.split(a, 4, axis=-1)
    c = sigmoid(f) * c + sigmoid(i) * tanh(g)
    return sigmoid(o) * tanh(c), c
