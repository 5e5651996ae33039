"""A cell whose hidden state is multiplied by the input."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
from jax import Array

from jaxrnn.initializers import glorot_uniform, orthogonal
from jaxrnn.layer import Cell, Keys, Params, State
from jaxrnn.ops import affine
from jaxrnn.wrappers._inner import hidden, hidden_size, with_hidden
from jaxrnn.wrappers._wrapper import Wrapper


class MultiplicativeParams(NamedTuple):
    cell: Params
    w_x: Array  # [input, hidden], of m
    w_h: Array  # [hidden, hidden], of m


class MultiplicativeInput(NamedTuple):
    z: Any  # of the wrapped cell
    m: Array  # [*batch, hidden], W_m x


@dataclass(frozen=True)
class Multiplicative(Wrapper):
    r"""A cell whose hidden state is first multiplied by the input, so that each input has a transition of its own.

    .. math::
        m_t &= (W_m x_t) \odot (R_m h_{t-1}) \\
        s_t &= \mathrm{cell}(x_t, s_{t-1} \text{ with } m_t \text{ in place of } h_{t-1})

    :math:`h` is the field `h` of the wrapped cell's state or, if it has none, its first. Whatever the cell does with
    it, it does with :math:`m`: an LSTM's memory stays as it is, but a GRU, whose hidden state is its memory, keeps
    :math:`m`. `Zoneout` goes around this wrapper, where it keeps :math:`h`. State and output are those of the cell.

    Args:
      cell: the wrapped cell.

    References: I. Sutskever, J. Martens, G. Hinton, "Generating text with recurrent neural networks", 2011;
    B. Krause, L. Lu, I. Murray, S. Renals, "Multiplicative LSTM for sequence modelling", 2016, whose LSTM is
    `MultiplicativeLSTM`: it also squashes elsewhere than `Multiplicative(LSTM(n))`.
    """

    cell: Cell

    def init(self, key: Array, input_size: int) -> MultiplicativeParams:
        k_cell, k_x, k_h = jax.random.split(key, 3)
        params = self.cell.init(k_cell, input_size)
        n = hidden_size(self, self.cell, params)
        return MultiplicativeParams(params, glorot_uniform(k_x, (input_size, n)), orthogonal(k_h, (n, n)))

    def initial_state(self, params: Params, batch_shape: tuple[int, ...] = (), dtype: Any = None) -> State:
        return self.cell.initial_state(params.cell, batch_shape, dtype)

    def project(self, params: Params, x: Any, key: Keys = None) -> MultiplicativeInput:
        return MultiplicativeInput(self.cell.project(params.cell, x, key), affine(x, params.w_x))

    def step(self, params: Params, state: State, z: MultiplicativeInput) -> State:
        m = z.m * (hidden(state) @ params.w_h)
        return self.cell.step(params.cell, with_hidden(state, m), z.z)

    def readout(self, params: Params, state: State, z: MultiplicativeInput) -> Any:
        return self.cell.readout(params.cell, state, z.z)
