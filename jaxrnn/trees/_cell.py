"""The contract of cells over trees."""

from __future__ import annotations

import abc
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

from jax import Array

from jaxrnn import _check as check
from jaxrnn.layer import Params, State


class TreeState(NamedTuple):
    h: Array  # [*batch, hidden]


@dataclass(frozen=True)
class TreeCell(abc.ABC):
    """A network's node: pure functions that treat every leading axis as a batch."""

    hidden_size: int
    arity: ClassVar[int | None] = None  # places of children that have weights of their own; None: children are a set

    def __post_init__(self) -> None:
        check.positive(self, "hidden_size")

    @abc.abstractmethod
    def init(self, key: Array, input_size: int) -> Params:
        """Draws parameters, `w_x` among them; of symbols, `input_size` is how many there are."""

    def leaf(self, params: Params, z: Array) -> State:
        """A leaf's state; `z` is its `x @ w_x`, zero where there is no input."""
        return TreeState(h=z)

    @abc.abstractmethod
    def step(self, params: Params, children: State, z: Array) -> State:
        """An inner node's state, from its children's [*batch, arity, hidden]: zeros where there is none."""
