"""Long short-term memory with a rhythm."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from jaxrnn.initializers import Chrono, gate_biases, gates, glorot_uniform, orthogonal
from jaxrnn.layer import Cell, Keys
from jaxrnn.ops import affine, sigmoid, tanh, zeros


class PhasedLSTMParams(NamedTuple):
    w_x: Array  # [input - 1, 4 * hidden], gates in the order i, f, g, o
    w_h: Array  # [hidden, 4 * hidden]
    w_c: Array  # [3, hidden], the diagonals of the peepholes of i, f, o
    b: Array  # [4 * hidden]
    period: Array  # [hidden]
    shift: Array  # [hidden]


class PhasedLSTMState(NamedTuple):
    h: Array  # [*batch, hidden]
    c: Array  # [*batch, hidden]


@dataclass(frozen=True)
class PhasedLSTM(Cell):
    r"""Long short-term memory whose units are open to change for a part of a period each, for events at any times.

    .. math::
        \phi_t &= ((\tau_t - s) \bmod p) / p \\
        k_t &= \begin{cases} 2 \phi_t / r & \phi_t < r / 2 \\ 2 - 2 \phi_t / r & r / 2 \leq \phi_t < r \\
            \alpha \phi_t & \text{otherwise} \end{cases} \\
        \tilde c_t &= f_t \odot c_{t-1} + i_t \odot g_t, \quad \tilde h_t = o_t \odot \tanh(\tilde c_t) \\
        c_t &= k_t \odot \tilde c_t + (1 - k_t) \odot c_{t-1} \\
        h_t &= k_t \odot \tilde h_t + (1 - k_t) \odot h_{t-1}

    with :math:`i_t, f_t, g_t, o_t` of `PeepholeLSTM`, :math:`o_t` seeing :math:`\tilde c_t`, and :math:`\tau_t` the
    time. The output is :math:`h_t`.

    The time is the input's last feature, which no matrix reads: the input size counts it, and symbols need an
    `Embedding` beside it. In float32 it should be kept near zero.

    Args:
      hidden_size: size of :math:`h` and :math:`c`.
      forget_bias: initial value of :math:`b_f`, a number or `Chrono(longest)`, which sets :math:`b_i` too.
      open_ratio: :math:`r`, the part of a period in which a unit is open.
      leak_rate: :math:`\alpha`, for a gradient while closed; the paper trains with this one, and evaluates with 0.
      log_periods: the logarithms of the periods are drawn uniformly between these two.

    References: D. Neil, M. Pfeiffer, S. Liu, "Phased LSTM: accelerating recurrent network training for long or
    event-based sequences", 2016. Deviation: :math:`r` is not learned.
    """

    hidden_size: int
    forget_bias: float | Chrono = 1.0
    open_ratio: float = 0.05
    leak_rate: float = 0.001
    log_periods: tuple[float, float] = (0.0, 3.0)

    def init(self, key: Array, input_size: int) -> PhasedLSTMParams:
        n = self.hidden_size
        k_x, k_h, k_c, k_b, k_p, k_s = jax.random.split(key, 6)
        w_x = gates(glorot_uniform, k_x, (input_size - 1, n), 4)
        w_h = gates(orthogonal, k_h, (n, n), 4)
        w_c = 0.1 * jax.random.normal(k_c, (3, n))
        b_f, b_i = gate_biases(k_b, self.forget_bias, n)
        period = jnp.exp(jax.random.uniform(k_p, (n,), minval=self.log_periods[0], maxval=self.log_periods[1]))
        shift = period * jax.random.uniform(k_s, (n,))
        return PhasedLSTMParams(w_x, w_h, w_c, jnp.concatenate([b_i, b_f, jnp.zeros(2 * n)]), period, shift)

    def initial_state(self, params, batch_shape=(), dtype=None) -> PhasedLSTMState:
        return PhasedLSTMState(*zeros(params, batch_shape, dtype, self.hidden_size, self.hidden_size))

    def project(self, params: PhasedLSTMParams, x: Array, key: Keys = None) -> tuple[Array, Array]:
        phase = jnp.mod(x[..., -1:] - params.shift, params.period) / params.period
        r = self.open_ratio
        k = jnp.where(phase < r / 2, 2 * phase / r, jnp.where(phase < r, 2 - 2 * phase / r, self.leak_rate * phase))
        return affine(x[..., :-1], params.w_x, params.b), k

    def step(self, params: PhasedLSTMParams, state: PhasedLSTMState, z: tuple[Array, Array]) -> PhasedLSTMState:
        x_gates, k = z
        p_i, p_f, p_o = params.w_c
        i, f, g, o = jnp.split(x_gates + state.h @ params.w_h, 4, axis=-1)
        c = sigmoid(f + p_f * state.c) * state.c + sigmoid(i + p_i * state.c) * tanh(g)
        h = sigmoid(o + p_o * c) * tanh(c)
        return PhasedLSTMState(h=k * h + (1 - k) * state.h, c=k * c + (1 - k) * state.c)

    def readout(self, params: PhasedLSTMParams, state: PhasedLSTMState, z: tuple[Array, Array]) -> Array:
        return state.h
