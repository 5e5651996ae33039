"""A layer that runs in the other direction."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from jax import Array

from jaxrnn.layer import Layer, Params, Plan, State
from jaxrnn.layers._layer_wrapper import LayerWrapper


@dataclass(frozen=True)
class Reversed(LayerWrapper):
    """Runs a layer in the other direction, for stacks whose layers alternate between directions.

    Like the backward layer of `Bidirectional`, the layer starts at each sequence's last step within its length, and
    `resets` separate the same sequences as without it. Parameters and state are those of the wrapped layer. Every
    output depends on future inputs, so `jaxrnn.step` cannot run this layer.

    The output is that of the wrapped layer, aligned with the input.

    Example:
      >>> layer = jaxrnn.Stack(jaxrnn.LSTM(64), jaxrnn.Reversed(jaxrnn.LSTM(64)))
      >>> params = layer.init(jax.random.key(0), input_size=8)
      >>> xs = jnp.zeros((20, 2, 8))  # [time, batch, input]
      >>> state, ys = jaxrnn.unroll(layer, params, xs, lengths=jnp.array([20, 13]))
      >>> ys.shape
      (20, 2, 64)

    Args:
      layer: The layer to run in the other direction.

    References:
      J. Zhou, W. Xu, "End-to-end learning of semantic role labeling using recurrent neural networks", 2015.
    """

    layer: Layer

    @property
    def causal(self) -> bool:
        return False

    def run(self, params: Params, xs: Any, state: State, key: Array | None, plan: Plan) -> tuple[State, Any]:
        return self.layer.run(params, xs, state, key, plan._replace(reverse=not plan.reverse))
