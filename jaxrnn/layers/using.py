"""A layer with its own loop."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from jax import Array

from jaxrnn import _check as check
from jaxrnn.layer import Layer, Loop, Params, Plan, State
from jaxrnn.layers._layer_wrapper import LayerWrapper


@dataclass(frozen=True)
class Using(LayerWrapper):
    """Runs a layer with its own loop, in place of the one that is given to `unroll`.

    It is useful in stacks of different cells. Parameters, state and output are those of the wrapped layer.

    Example:
      >>> linear = jaxrnn.Using(jaxrnn.MinGRU(64), jaxrnn.loops.AssociativeScan())
      >>> layer = jaxrnn.Stack(linear, jaxrnn.LSTM(64))
      >>> params = layer.init(jax.random.key(0), input_size=8)
      >>> state, ys = jaxrnn.unroll(layer, params, jnp.zeros((20, 32, 8)))  # [time, batch, input]
      >>> ys.shape
      (20, 32, 64)

    Args:
      layer: The layer to run.
      loop: Its loop, from `jaxrnn.loops`. If time is sharded over a mesh axis, the loop that is given to `unroll` has
        its name, and this one must not.
    """

    layer: Layer
    loop: Loop

    def __post_init__(self) -> None:
        super().__post_init__()
        check.instance(self, "loop", Loop, "a loop such as jaxrnn.loops.Scan()")
        if self.loop.axis_name is not None:
            raise ValueError(
                f"Using's loop must have no axis_name, but it is {self.loop}: give axis_name to the loop of unroll, "
                "which determines it for all loops"
            )

    def run(self, params: Params, xs: Any, state: State, key: Array | None, plan: Plan) -> tuple[State, Any]:
        return self.layer.run(params, xs, state, key, plan.using(self.loop))
