"""A layer that reads the last step first."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from jax import Array

from jaxrnn.layer import Layer, Params, Plan, State
from jaxrnn.layers._around import Around
from jaxrnn.layers._direction import turned


@dataclass(frozen=True)
class Reversed(Around):
    """A layer that reads in the other direction, for stacks whose layers take turns.

    As the backward layer of `Bidirectional` it begins at a sequence's last step within its length, and `resets` part
    the same sequences. Parameters and state are those of the layer.

    Args:
      layer: the layer.

    References: J. Zhou, W. Xu, "End-to-end learning of semantic role labeling using recurrent neural networks", 2015.
    """

    layer: Layer

    @property
    def causal(self) -> bool:
        return False

    def run(self, params: Params, xs: Any, state: State, key: Array | None, plan: Plan) -> tuple[State, Any]:
        return self.layer.run(params, xs, state, key, turned(plan))
