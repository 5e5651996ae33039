"""A wrapper in which the input and the hidden state of a cell gate each other."""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass
from functools import reduce
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from jaxrnn import _check as check
from jaxrnn._keys import as_step_key
from jaxrnn.initializers import glorot_uniform
from jaxrnn.layer import Cell, Keys, Params, State, project
from jaxrnn.ops import as_features, sigmoid
from jaxrnn.wrappers._hidden import check_hidden_size, get_hidden, replace_hidden
from jaxrnn.wrappers._readout import readout_from_state
from jaxrnn.wrappers._wrapper import Wrapper


class MogrifierParams(NamedTuple):
    cell: Params
    q: tuple[tuple[Array, ...], ...]  # for each odd round [hidden, input], or [hidden, rank] and [rank, input]
    r: tuple[tuple[Array, ...], ...]  # for each even round [input, hidden], or [input, rank] and [rank, hidden]


class MogrifierInput(NamedTuple):
    x: Array  # [*batch, input]
    key: Array | None  # for the wrapped cell, whose input is projected inside the step


@dataclass(frozen=True)
class Mogrifier(Wrapper):
    r"""The input and the hidden state of a cell gate each other in turn before the cell reads them.

    .. math::
        x^k &= 2 \sigma(Q^k h^{k-1}) \odot x^{k-2} \quad \text{for odd } k \leq r \\
        h^k &= 2 \sigma(R^k x^{k-1}) \odot h^{k-2} \quad \text{for even } k \leq r \\
        s_t &= \mathrm{cell}(x^\uparrow, s_{t-1} \text{ with } h^\uparrow \text{ in place of } h_{t-1})

    Here :math:`x^{-1} = x_t` and :math:`h^0 = h_{t-1}`; :math:`x^\uparrow` and :math:`h^\uparrow` are the last
    :math:`x^k` and the last :math:`h^k`. :math:`h` is the field `h` of the wrapped cell's state or, if it has none, the
    first field. The input itself is gated, so symbols become one-hot vectors; an `Embedding` before this cell is
    cheaper.

    State and output are those of the wrapped cell, whose output must depend on its state alone.

    Example:
      >>> cell = jaxrnn.Mogrifier(jaxrnn.GRU(64), rounds=4)
      >>> params = cell.init(jax.random.key(0), input_size=8)
      >>> state, ys = jaxrnn.unroll(cell, params, jnp.zeros((20, 32, 8)))  # [time, batch, input]
      >>> ys.shape
      (20, 32, 64)

    Args:
      cell: The wrapped cell.
      rounds: Number of rounds :math:`r`. Odd rounds gate the input, even rounds the hidden state.
      rank: None, or the rank of :math:`Q` and :math:`R`, which are then products of two matrices.

    References:
      G. Melis, T. Kocisky, P. Blunsom, "Mogrifier LSTM", 2020.
    """

    cell: Cell
    _: KW_ONLY
    rounds: int = 5
    rank: int | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        check.positive(self, "rounds")
        check.positive_or_none(self, "rank")

    def init(self, key: Array, input_size: int) -> MogrifierParams:
        k_cell, *k_rounds = jax.random.split(key, 1 + self.rounds)
        params = self.cell.init(k_cell, input_size)
        n = check_hidden_size(self, self.cell, params)

        def factors(key: Array, rows: int, columns: int) -> tuple[Array, ...]:
            sizes = [rows, columns] if self.rank is None else [rows, self.rank, columns]
            keys = jax.random.split(key, len(sizes) - 1)
            return tuple(glorot_uniform(k, (a, b)) for k, a, b in zip(keys, sizes[:-1], sizes[1:], strict=True))

        q = tuple(factors(k, n, input_size) for k in k_rounds[::2])
        r = tuple(factors(k, input_size, n) for k in k_rounds[1::2])
        return MogrifierParams(params, q, r)

    def initial_state(self, params: Params, batch_shape: tuple[int, ...] = (), dtype: Any = None) -> State:
        return self.cell.initial_state(params.cell, batch_shape, dtype)

    def project(self, params: Params, x: Any, key: Keys = None) -> MogrifierInput:
        gate = params.q[0][-1]  # [hidden or rank, input]
        x = as_features(x, gate.shape[-1], gate.dtype)
        return MogrifierInput(x, None if key is None else as_step_key(key))

    def step(self, params: Params, state: State, z: MogrifierInput) -> State:
        x = z.x
        h = get_hidden(state)
        for k in range(self.rounds):
            if k % 2 == 0:
                x = 2 * sigmoid(reduce(jnp.matmul, params.q[k // 2], h)) * x
            else:
                h = 2 * sigmoid(reduce(jnp.matmul, params.r[k // 2], x)) * h
        z_cell = project(self.cell, params.cell, x, z.key)
        return self.cell.step(params.cell, replace_hidden(state, h), z_cell)

    def readout(self, params: Params, state: State, z: MogrifierInput) -> Any:
        z_cell = jax.eval_shape(self.cell.project, params.cell, z.x)
        return readout_from_state(self, self.cell, params.cell, state, z_cell)
