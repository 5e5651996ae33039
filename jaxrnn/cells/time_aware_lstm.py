"""Long short-term memory for irregular time steps."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import KW_ONLY, dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from jaxrnn import _check as check
from jaxrnn.initializers import Chrono, gate_biases, gates, glorot_uniform, orthogonal
from jaxrnn.layer import Cell, Keys
from jaxrnn.ops import affine, sigmoid, tanh, zeros


def inverse_log(gap: Array) -> Array:
    r"""Returns :math:`1 / \log(e + \Delta_t)`."""
    return 1 / jnp.log(jnp.e + gap)


class TimeAwareLSTMParams(NamedTuple):
    w_x: Array  # [input - 1, 4 * hidden], gates in the order i, f, g, o
    w_h: Array  # [hidden, 4 * hidden]
    b: Array  # [4 * hidden]
    w_s: Array  # [hidden, hidden], for the short-term memory
    b_s: Array  # [hidden]


class TimeAwareLSTMState(NamedTuple):
    h: Array  # [*batch, hidden]
    c: Array  # [*batch, hidden]


class TimeAwareLSTMGates(NamedTuple):
    i: Array  # [*batch, hidden], input gate
    f: Array  # forget gate
    g: Array  # candidate
    o: Array  # output gate


@dataclass(frozen=True)
class TimeAwareLSTM(Cell):
    r"""Long short-term memory that discounts the short-term part of its memory by the time since the last step.

    It is meant for sequences with uneven intervals between steps. The time gap :math:`\Delta_t` is the last feature of
    the input and is included in the input size. No matrix reads it, so symbols must pass through an `Embedding` before
    the gap is appended.

    .. math::
        s_{t-1} &= \tanh(W_s c_{t-1} + b_s) \\
        \hat c_{t-1} &= c_{t-1} - s_{t-1} + d(\Delta_t) s_{t-1} \\
        i_t &= \sigma(W_i x_t + R_i h_{t-1} + b_i) \\
        f_t &= \sigma(W_f x_t + R_f h_{t-1} + b_f) \\
        g_t &= \tanh(W_g x_t + R_g h_{t-1} + b_g) \\
        o_t &= \sigma(W_o x_t + R_o h_{t-1} + b_o) \\
        c_t &= f_t \odot \hat c_{t-1} + i_t \odot g_t \\
        h_t &= o_t \odot \tanh(c_t)

    The output is :math:`h_t`.

    Example:
      >>> cell = jaxrnn.TimeAwareLSTM(hidden_size=64)
      >>> values, gaps = jnp.zeros((20, 32, 8)), jnp.ones((20, 32, 1))  # [time, batch, features]
      >>> params = cell.init(jax.random.key(0), input_size=9)
      >>> state, ys = jaxrnn.unroll(cell, params, jnp.concatenate([values, gaps], axis=-1))
      >>> ys.shape
      (20, 32, 64)

    Args:
      hidden_size: Size of :math:`h` and :math:`c`.
      forget_bias: Initial value of :math:`b_f`: a number, or `Chrono(longest)`, which also sets :math:`b_i`.
      decay: :math:`d`, an elementwise function; the paper has :math:`1 / \log(e + \Delta_t)`, the default, for large
        gaps and :math:`1 / \Delta_t` for small ones.

    References:
      I. Baytas et al., "Patient subtyping via time-aware LSTM networks", 2017.
    """

    hidden_size: int
    _: KW_ONLY
    forget_bias: float | Chrono = 1.0
    decay: Callable[[Array], Array] = inverse_log

    def __post_init__(self) -> None:
        check.positive(self, "hidden_size")
        check.gate_bias(self, "forget_bias")
        check.function(self, "decay")

    def init(self, key: Array, input_size: int) -> TimeAwareLSTMParams:
        n = self.hidden_size
        k_x, k_h, k_s, k_b = jax.random.split(key, 4)
        w_x = gates(glorot_uniform, k_x, (input_size - 1, n), 4)
        w_h = gates(orthogonal, k_h, (n, n), 4)
        b_f, b_i = gate_biases(k_b, self.forget_bias, n)
        b = jnp.concatenate([b_i, b_f, jnp.zeros(2 * n)])
        return TimeAwareLSTMParams(w_x, w_h, b, orthogonal(k_s, (n, n)), jnp.zeros(n))

    def initial_state(self, params, batch_shape=(), dtype=None) -> TimeAwareLSTMState:
        return TimeAwareLSTMState(*zeros(params, batch_shape, dtype, self.hidden_size, self.hidden_size))

    def project(self, params: TimeAwareLSTMParams, x: Array, key: Keys = None) -> tuple[Array, Array]:
        check.numbers(self, x, "reads the time gap from its last feature", "append it to the output of an Embedding")
        return affine(x[..., :-1], params.w_x, params.b), self.decay(x[..., -1:])

    def gates(
        self, params: TimeAwareLSTMParams, state: TimeAwareLSTMState, z: tuple[Array, Array]
    ) -> TimeAwareLSTMGates:
        """Returns the gates and the candidate of a step, given the state before it."""
        x_gates, _ = z
        i, f, g, o = jnp.split(x_gates + state.h @ params.w_h, 4, axis=-1)
        return TimeAwareLSTMGates(sigmoid(i), sigmoid(f), tanh(g), sigmoid(o))

    def step(
        self, params: TimeAwareLSTMParams, state: TimeAwareLSTMState, z: tuple[Array, Array]
    ) -> TimeAwareLSTMState:
        _, decay = z
        short = tanh(affine(state.c, params.w_s, params.b_s))
        i, f, g, o = self.gates(params, state, z)
        c = f * (state.c - short + decay * short) + i * g
        return TimeAwareLSTMState(h=o * tanh(c), c=c)

    def readout(self, params: TimeAwareLSTMParams, state: TimeAwareLSTMState, z: tuple[Array, Array]) -> Array:
        return state.h
