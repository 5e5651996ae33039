"""Base of cells that wrap one other cell."""

from __future__ import annotations

from typing import Any, NamedTuple

from jax import Array

from jaxrnn import _check as check
from jaxrnn.layer import Cell, Params, State


class MaskedInput(NamedTuple):
    """The projected input of a wrapped cell and the random masks of its step. In evaluation there are no masks."""

    z: Any
    masks: Any


class Wrapper(Cell):
    """A cell that wraps one other cell and has its parameters and its state."""

    cell: Cell

    def __post_init__(self) -> None:
        check.instance(self, "cell", Cell, "a jaxrnn cell")

    @property
    def num_feature_axes(self) -> int:  # type: ignore[override]
        return self.cell.num_feature_axes

    def init(self, key: Array, input_size: Any) -> Params:
        return self.cell.init(key, input_size)

    def initial_state(self, params: Params, batch_shape: tuple[int, ...] = (), dtype: Any = None) -> State:
        return self.cell.initial_state(params, batch_shape, dtype)

    def comparable(self, one: State, other: State) -> tuple[State, State]:
        return self.cell.comparable(one, other)
