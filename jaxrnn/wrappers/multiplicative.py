"""A wrapper that multiplies the hidden state of a cell by the input."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
from jax import Array

from jaxrnn.initializers import glorot_uniform, orthogonal
from jaxrnn.layer import Cell, Keys, Params, State
from jaxrnn.ops import affine
from jaxrnn.wrappers._hidden import check_hidden_size, get_hidden, replace_hidden
from jaxrnn.wrappers._wrapper import Wrapper


class MultiplicativeParams(NamedTuple):
    cell: Params
    w_x: Array  # [input, hidden], W_m
    w_h: Array  # [hidden, hidden], R_m


class MultiplicativeInput(NamedTuple):
    z: Any  # projected input of the wrapped cell
    m: Array  # [*batch, hidden], W_m x


@dataclass(frozen=True)
class Multiplicative(Wrapper):
    r"""Multiplies the hidden state of a cell by the input, so that each input has its own recurrent matrix.

    .. math::
        m_t &= (W_m x_t) \odot (R_m h_{t-1}) \\
        s_t &= \mathrm{cell}(x_t, s_{t-1} \text{ with } m_t \text{ in place of } h_{t-1})

    :math:`h` is the field `h` of the wrapped cell's state or, if it has none, the first field. The cell reads :math:`m`
    everywhere in place of :math:`h`. The memory of an LSTM is not affected, but in a GRU the hidden state is the
    memory, so the update gate keeps :math:`m`. To combine it with `Zoneout`, write `Zoneout(Multiplicative(cell))`,
    which keeps :math:`h`.

    State and output are those of the wrapped cell.

    Example:
      >>> cell = jaxrnn.Multiplicative(jaxrnn.LSTM(64))
      >>> params = cell.init(jax.random.key(0), input_size=8)
      >>> state, ys = jaxrnn.unroll(cell, params, jnp.zeros((20, 32, 8)))  # [time, batch, input]
      >>> ys.shape, params.w_h.shape
      ((20, 32, 64), (64, 64))

    Args:
      cell: The wrapped cell.

    References:
      I. Sutskever, J. Martens, G. Hinton, "Generating text with recurrent neural networks", 2011; B. Krause, L. Lu, I.
      Murray, S. Renals, "Multiplicative LSTM for sequence modelling", 2016. The LSTM of the second paper is
      `MultiplicativeLSTM`, which also applies its nonlinearities in other places than `Multiplicative(LSTM(n))`.
    """

    cell: Cell

    def init(self, key: Array, input_size: int) -> MultiplicativeParams:
        k_cell, k_x, k_h = jax.random.split(key, 3)
        params = self.cell.init(k_cell, input_size)
        n = check_hidden_size(self, self.cell, params)
        return MultiplicativeParams(params, glorot_uniform(k_x, (input_size, n)), orthogonal(k_h, (n, n)))

    def initial_state(self, params: Params, batch_shape: tuple[int, ...] = (), dtype: Any = None) -> State:
        return self.cell.initial_state(params.cell, batch_shape, dtype)

    def project(self, params: Params, x: Any, key: Keys = None) -> MultiplicativeInput:
        return MultiplicativeInput(self.cell.project(params.cell, x, key), affine(x, params.w_x))

    def step(self, params: Params, state: State, z: MultiplicativeInput) -> State:
        m = z.m * (get_hidden(state) @ params.w_h)
        return self.cell.step(params.cell, replace_hidden(state, m), z.z)

    def readout(self, params: Params, state: State, z: MultiplicativeInput) -> Any:
        return self.cell.readout(params.cell, state, z.z)
