"""A layer with its own loop."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from jax import Array

from jaxrnn import _check as check
from jaxrnn.layer import Layer, Loop, Params, Plan, State
from jaxrnn.layers._around import Around


@dataclass(frozen=True)
class Using(Around):
    """A layer that runs on a loop of its own, whatever `unroll` is told: for stacks of different cells.

    Args:
      layer: the layer.
      loop: its loop.
    """

    layer: Layer
    loop: Loop

    def __post_init__(self) -> None:
        super().__post_init__()
        check.instance(self, "loop", Loop, "a loop such as jaxrnn.loops.Scan()")

    def run(self, params: Params, xs: Any, state: State, key: Array | None, plan: Plan) -> tuple[State, Any]:
        return self.layer.run(params, xs, state, key, plan._replace(loop=self.loop))
