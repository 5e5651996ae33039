"""Clockwork recurrent network."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import KW_ONLY, dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxrnn import _check as check
from jaxrnn.initializers import glorot_uniform, orthogonal
from jaxrnn.layer import Cell, Keys
from jaxrnn.ops import affine, align, spread_like, tanh, zeros


class ClockworkRNNParams(NamedTuple):
    w_x: Array  # [input, hidden]
    w_h: Array  # [hidden, hidden], used only where the row's period is at least the column's
    b: Array  # [hidden]


class ClockworkRNNState(NamedTuple):
    h: Array  # [*batch, hidden]
    t: Array  # int [*batch], the index of the next step, modulo the least common multiple of the periods


@dataclass(frozen=True)
class ClockworkRNN(Cell):
    r"""Clockwork recurrent network: groups of units, each updated at its own period.

    Groups with a long period change rarely and so remember for longer. A group reads its own state and those of the
    groups that are not faster than itself. All groups have the same size.

    .. math::
        h_t^{(i)} = \begin{cases}
        \phi(W_i x_t + \sum_{j : T_j \geq T_i} R_{ij} h_{t-1}^{(j)} + b_i) & t \bmod T_i = 0 \\
        h_{t-1}^{(i)} & \text{otherwise} \end{cases}

    Steps are counted from 0, so every group reads the first input. The output is :math:`h_t`.

    Example:
      >>> cell = jaxrnn.ClockworkRNN(hidden_size=8, periods=(1, 4))
      >>> params = cell.init(jax.random.key(0), input_size=3)
      >>> state, ys = jaxrnn.unroll(cell, params, jax.random.normal(jax.random.key(1), (10, 3)))  # [time, input]
      >>> [t for t in range(1, 10) if ys[t, -1] != ys[t - 1, -1]]  # when the slow group changes
      [4, 8]

    Args:
      hidden_size: Size of :math:`h`, a multiple of the number of periods.
      periods: The periods :math:`T_i`, increasing positive integers.
      activation: :math:`\phi`, an elementwise function such as `jnp.tanh` or `jax.nn.relu`.

    References:
      J. Koutnik, K. Greff, F. Gomez, J. Schmidhuber, "A clockwork RNN", 2014.
    """

    hidden_size: int
    _: KW_ONLY
    periods: tuple[int, ...] = (1, 2, 4, 8)
    activation: Callable[[Array], Array] = tanh

    def __post_init__(self) -> None:
        check.positive(self, "hidden_size")
        check.function(self, "activation")
        periods, what = self.periods, "a tuple of increasing positive integers"
        if not (isinstance(periods, tuple) and all(check.is_integer(period) for period in periods)):
            raise TypeError(f"ClockworkRNN's periods must be {what}, but it is {periods!r}")
        if not periods or periods[0] < 1 or list(periods) != sorted(set(periods)):
            raise ValueError(f"ClockworkRNN's periods must be {what}, but it is {periods!r}")
        if self.hidden_size % len(periods):
            raise ValueError(
                f"ClockworkRNN's hidden_size must be a multiple of the number of periods, {len(periods)}, "
                f"but it is {self.hidden_size!r}"
            )

    def init(self, key: Array, input_size: int) -> ClockworkRNNParams:
        n = self.hidden_size
        k_x, k_h = jax.random.split(key)
        return ClockworkRNNParams(glorot_uniform(k_x, (input_size, n)), orthogonal(k_h, (n, n)), jnp.zeros(n))

    def initial_state(self, params, batch_shape=(), dtype=None) -> ClockworkRNNState:
        (h,) = zeros(params, batch_shape, dtype, self.hidden_size)
        return ClockworkRNNState(h, spread_like(params, jnp.zeros(batch_shape, jnp.int32)))

    def project(self, params: ClockworkRNNParams, x: Array, key: Keys = None) -> Array:
        return affine(x, params.w_x, params.b)

    def step(self, params: ClockworkRNNParams, state: ClockworkRNNState, z: Array) -> ClockworkRNNState:
        periods = np.repeat(np.array(self.periods, np.int32), self.hidden_size // len(self.periods))
        read = periods[:, None] >= periods[None]  # each group reads those that are not faster than itself
        new = self.activation(z + state.h @ jnp.where(read, params.w_h, 0))
        now = state.t[..., None] % align(periods, new) == 0
        h = jnp.where(now, new, state.h)
        return ClockworkRNNState(h=h, t=(state.t + 1) % math.lcm(*self.periods))

    def readout(self, params: ClockworkRNNParams, state: ClockworkRNNState, z: Array) -> Array:
        return state.h
