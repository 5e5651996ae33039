"""Long short-term memory whose input and state gate each other before each step."""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass
from functools import reduce
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from jaxrnn import _check as check
from jaxrnn.initializers import Chrono, gate_biases, gates, glorot_uniform, orthogonal
from jaxrnn.layer import Cell, Keys
from jaxrnn.ops import affine, as_features, sigmoid, tanh, zeros


class MogrifierLSTMParams(NamedTuple):
    w_x: Array  # [input, 4 * hidden], gates in the order i, f, g, o
    w_h: Array  # [hidden, 4 * hidden]
    b: Array  # [4 * hidden]
    q: tuple[tuple[Array, ...], ...]  # for each odd round [hidden, input], or [hidden, rank] and [rank, input]
    r: tuple[tuple[Array, ...], ...]  # for each even round [input, hidden], or [input, rank] and [rank, hidden]


class MogrifierLSTMState(NamedTuple):
    h: Array  # [*batch, hidden]
    c: Array  # [*batch, hidden]


class MogrifierLSTMGates(NamedTuple):
    i: Array  # [*batch, hidden], input gate
    f: Array  # forget gate
    g: Array  # candidate
    o: Array  # output gate


@dataclass(frozen=True)
class MogrifierLSTM(Cell):
    r"""Long short-term memory whose input and state gate each other in turn before the gates read them.

    The input itself is gated, so symbols become one-hot vectors, as large as the input size; an `Embedding` before this
    cell is cheaper. The wrapper `Mogrifier` does the same for other cells.

    .. math::
        x^k &= 2 \sigma(Q^k h^{k-1}) \odot x^{k-2} \quad \text{for odd } k \leq r \\
        h^k &= 2 \sigma(R^k x^{k-1}) \odot h^{k-2} \quad \text{for even } k \leq r \\
        h_t, c_t &= \mathrm{LSTM}(x^\uparrow, h^\uparrow, c_{t-1})

    Here :math:`x^{-1} = x_t` and :math:`h^0 = h_{t-1}`; :math:`x^\uparrow` and :math:`h^\uparrow` are the last
    :math:`x^k` and the last :math:`h^k`, which enter the equations of `LSTM`. The output is :math:`h_t`.

    Example:
      >>> model = jaxrnn.Stack(jaxrnn.Embedding(16), jaxrnn.MogrifierLSTM(hidden_size=64))
      >>> params = model.init(jax.random.key(0), input_size=100)  # 100 different symbols
      >>> state, ys = jaxrnn.unroll(model, params, jnp.zeros((20, 32), int))  # [time, batch]
      >>> ys.shape
      (20, 32, 64)

    Args:
      hidden_size: Size of :math:`h` and :math:`c`.
      rounds: Number of rounds :math:`r`. Odd rounds gate the input, even rounds the state; 0 makes it an LSTM.
      rank: None, or the rank of :math:`Q` and :math:`R`, which are then products of two matrices.
      forget_bias: Initial value of :math:`b_f`: a number, or `Chrono(longest)`, which also sets :math:`b_i`.

    References:
      G. Melis, T. Kocisky, P. Blunsom, "Mogrifier LSTM", 2020.
    """

    hidden_size: int
    _: KW_ONLY
    rounds: int = 5
    rank: int | None = None
    forget_bias: float | Chrono = 1.0

    def __post_init__(self) -> None:
        check.positive(self, "hidden_size")
        check.at_least(self, "rounds", 0)
        check.positive_or_none(self, "rank")
        check.gate_bias(self, "forget_bias")

    def init(self, key: Array, input_size: int) -> MogrifierLSTMParams:
        n = self.hidden_size
        k_x, k_h, k_b, *k_rounds = jax.random.split(key, 3 + self.rounds)
        w_x = gates(glorot_uniform, k_x, (input_size, n), 4)
        w_h = gates(orthogonal, k_h, (n, n), 4)
        b_f, b_i = gate_biases(k_b, self.forget_bias, n)

        def factors(key: Array, rows: int, columns: int) -> tuple[Array, ...]:
            sizes = [rows, columns] if self.rank is None else [rows, self.rank, columns]
            keys = jax.random.split(key, len(sizes) - 1)
            return tuple(glorot_uniform(k, (a, b)) for k, a, b in zip(keys, sizes[:-1], sizes[1:], strict=True))

        q = tuple(factors(k, n, input_size) for k in k_rounds[::2])
        r = tuple(factors(k, input_size, n) for k in k_rounds[1::2])
        return MogrifierLSTMParams(w_x, w_h, jnp.concatenate([b_i, b_f, jnp.zeros(2 * n)]), q, r)

    def initial_state(self, params, batch_shape=(), dtype=None) -> MogrifierLSTMState:
        return MogrifierLSTMState(*zeros(params, batch_shape, dtype, self.hidden_size, self.hidden_size))

    def project(self, params: MogrifierLSTMParams, x: Array, key: Keys = None) -> Array:
        return as_features(x, params.w_x.shape[0], params.w_x.dtype)

    def gates(self, params: MogrifierLSTMParams, state: MogrifierLSTMState, z: Array) -> MogrifierLSTMGates:
        """Returns the gates and the candidate of a step, given the state before it."""
        x, h = z, state.h
        for k in range(self.rounds):
            if k % 2 == 0:
                x = 2 * sigmoid(reduce(jnp.matmul, params.q[k // 2], h)) * x
            else:
                h = 2 * sigmoid(reduce(jnp.matmul, params.r[k // 2], x)) * h
        i, f, g, o = jnp.split(affine(x, params.w_x, params.b) + h @ params.w_h, 4, axis=-1)
        return MogrifierLSTMGates(sigmoid(i), sigmoid(f), tanh(g), sigmoid(o))

    def step(self, params: MogrifierLSTMParams, state: MogrifierLSTMState, z: Array) -> MogrifierLSTMState:
        i, f, g, o = self.gates(params, state, z)
        c = f * state.c + i * g
        return MogrifierLSTMState(h=o * tanh(c), c=c)

    def readout(self, params: MogrifierLSTMParams, state: MogrifierLSTMState, z: Array) -> Array:
        return state.h
