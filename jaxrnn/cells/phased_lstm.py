"""Long short-term memory with rhythmic time gates."""

from __future__ import annotations

import math
from dataclasses import KW_ONLY, dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from jaxrnn import _check as check
from jaxrnn.initializers import Chrono, gate_biases, gates, glorot_uniform, orthogonal
from jaxrnn.layer import Cell, Keys
from jaxrnn.ops import affine, align, sigmoid, tanh, zeros


class PhasedLSTMParams(NamedTuple):
    w_x: Array  # [input - 1, 4 * hidden], gates in the order i, f, g, o
    w_h: Array  # [hidden, 4 * hidden]
    w_c: Array  # [3, hidden], the peepholes of i, f, o
    b: Array  # [4 * hidden]
    period: Array  # [hidden]
    shift: Array  # [hidden]


class PhasedLSTMState(NamedTuple):
    h: Array  # [*batch, hidden]
    c: Array  # [*batch, hidden]


class PhasedLSTMGates(NamedTuple):
    i: Array  # [*batch, hidden], input gate
    f: Array  # forget gate
    g: Array  # candidate
    o: Array  # output gate


@dataclass(frozen=True)
class PhasedLSTM(Cell):
    r"""Long short-term memory whose units change only during a part of their periods, for events at irregular times.

    The time :math:`\tau_t` is the last feature of the input, and the input size includes it. No matrix reads it, so
    symbols need an `Embedding` and the time beside it. In float32, times should be kept near zero.

    .. math::
        \phi_t &= ((\tau_t - s) \bmod p) / p \\
        k_t &= \begin{cases} 2 \phi_t / r & \phi_t < r / 2 \\ 2 - 2 \phi_t / r & r / 2 \leq \phi_t < r \\
            \alpha \phi_t & \text{otherwise} \end{cases} \\
        \tilde c_t &= f_t \odot c_{t-1} + i_t \odot g_t, \quad \tilde h_t = o_t \odot \tanh(\tilde c_t) \\
        c_t &= k_t \odot \tilde c_t + (1 - k_t) \odot c_{t-1} \\
        h_t &= k_t \odot \tilde h_t + (1 - k_t) \odot h_{t-1}

    Here :math:`i_t, f_t, g_t` and :math:`o_t` are those of `PeepholeLSTM`, with :math:`o_t` reading :math:`\tilde c_t`.
    The output is :math:`h_t`.

    Example:
      >>> cell = jaxrnn.PhasedLSTM(hidden_size=64)
      >>> params = cell.init(jax.random.key(0), input_size=8)  # 7 features and the time
      >>> times = jnp.broadcast_to(jnp.linspace(0, 5, 20)[:, None, None], (20, 32, 1))
      >>> xs = jnp.concatenate([jnp.zeros((20, 32, 7)), times], axis=-1)
      >>> state, ys = jaxrnn.unroll(cell, params, xs)  # [time, batch, input]
      >>> ys.shape, params.w_x.shape
      ((20, 32, 64), (7, 256))

    Args:
      hidden_size: Size of :math:`h` and :math:`c`.
      forget_bias: Initial value of :math:`b_f`: a number, or `Chrono(longest)`, which also sets :math:`b_i`.
      open_ratio: The part :math:`r` of a period in which a unit is open, above 0 and at most 1.
      leak_rate: The factor :math:`\alpha`, from 0 to 1, which lets gradients pass while a unit is closed. The paper
        trains with the default and evaluates with 0.
      log_periods: The bounds between which the logarithms of the periods are drawn uniformly.

    References:
      D. Neil, M. Pfeiffer, S. Liu, "Phased LSTM: accelerating recurrent network training for long or event-based
      sequences", 2016.

    Deviations:
      The ratio :math:`r` is not learned.
    """

    hidden_size: int
    _: KW_ONLY
    forget_bias: float | Chrono = 1.0
    open_ratio: float = 0.05
    leak_rate: float = 0.001
    log_periods: tuple[float, float] = (0.0, 3.0)

    def __post_init__(self) -> None:
        check.positive(self, "hidden_size")
        check.gate_bias(self, "forget_bias")
        check.share(self, "open_ratio")
        check.between(self, "leak_rate", 0, 1)
        _check_log_periods(self)

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
        check.numbers(self, x, "reads the time from its last feature", "append it to the output of an Embedding")
        shift, period = align((params.shift, params.period), x)
        phase = jnp.mod(x[..., -1:] - shift, period) / period
        r = self.open_ratio
        k = jnp.where(phase < r / 2, 2 * phase / r, jnp.where(phase < r, 2 - 2 * phase / r, self.leak_rate * phase))
        return affine(x[..., :-1], params.w_x, params.b), k

    def gates(self, params: PhasedLSTMParams, state: PhasedLSTMState, z: tuple[Array, Array]) -> PhasedLSTMGates:
        """Returns the gates and the candidate of a step, given the state before it."""
        return self._gates_and_memory(params, state, z)[0]

    def step(self, params: PhasedLSTMParams, state: PhasedLSTMState, z: tuple[Array, Array]) -> PhasedLSTMState:
        _, k = z
        (_, _, _, o), c = self._gates_and_memory(params, state, z)
        h = o * tanh(c)
        return PhasedLSTMState(h=k * h + (1 - k) * state.h, c=k * c + (1 - k) * state.c)

    def readout(self, params: PhasedLSTMParams, state: PhasedLSTMState, z: tuple[Array, Array]) -> Array:
        return state.h

    def _gates_and_memory(
        self, params: PhasedLSTMParams, state: PhasedLSTMState, z: tuple[Array, Array]
    ) -> tuple[PhasedLSTMGates, Array]:
        # The output gate reads the new memory.
        x_gates, _ = z
        p_i, p_f, p_o = align(tuple(params.w_c), x_gates)
        i, f, g, o = jnp.split(x_gates + state.h @ params.w_h, 4, axis=-1)
        i, f, g = sigmoid(i + p_i * state.c), sigmoid(f + p_f * state.c), tanh(g)
        c = f * state.c + i * g
        return PhasedLSTMGates(i, f, g, sigmoid(o + p_o * c)), c


def _check_log_periods(cell: PhasedLSTM) -> None:
    """Checks that `log_periods` is a pair of finite numbers of which the first is not above the second."""
    pair = cell.log_periods
    has_numbers = isinstance(pair, tuple) and all(check.is_number(bound) for bound in pair)
    if not has_numbers or len(pair) != 2 or not -math.inf < pair[0] <= pair[1] < math.inf:
        kind = ValueError if has_numbers else TypeError
        raise kind(
            f"{type(cell).__name__}'s log_periods must be a tuple of two finite numbers, the first not above the "
            f"second, but it is {pair!r}"
        )
