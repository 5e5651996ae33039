"""An NNX cell without its variables."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import jax
from flax import nnx
from jax import Array

from jaxrnn._flax.cells import FlaxCell
from jaxrnn.layer import Params, State


@dataclass(frozen=True)
class NnxCell(FlaxCell):
    """See `FlaxCell`. The variables are the state that `nnx.split` returns.

    Args:
      graph: The graph definition that `nnx.split` returns.
      num_feature_axes: Number of trailing axes of an input that are features.
    """

    graph: Any
    num_feature_axes: int  # type: ignore[misc]

    def step(self, variables: Params, carry: State, x: Array) -> tuple[State, Any]:
        before = jax.tree.leaves(variables)  # listed first, because the merged cell changes its variables in place
        cell = nnx.merge(self.graph, variables)
        result = cell(carry, x)
        graph, after = nnx.split(cell)
        if graph != self.graph or any(a is not b for a, b in zip(jax.tree.leaves(after), before, strict=True)):
            raise TypeError(
                f"{type(cell).__name__} changes its variables or draws random numbers in the step: use flax.nnx.RNN"
            )
        return result

    def initial_carry(self, variables: Params, input_shape: tuple[int, ...]) -> State:
        return nnx.merge(self.graph, variables).initialize_carry(input_shape, nnx.RngStream(0, tag="carry"))
