"""Layers one after the other."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from jax import Array

from jaxrnn.layer import Layer, Params, Plan, State
from jaxrnn.layers._checks import check_feature_axes
from jaxrnn.layers._composite import Composite
from jaxrnn.layers._output_size import output_size


@dataclass(frozen=True, init=False, repr=False)
class Stack(Composite):
    """Runs layers one after the other: each layer reads the output of the one before it.

    Parameters and states are tuples with one entry per layer. The output is that of the last layer. `state_of` and
    `replace_state` read and replace the state of one layer.

    Example:
      >>> layer = jaxrnn.Stack(jaxrnn.LSTM(64), jaxrnn.Dropout(0.1), jaxrnn.GRU(32))
      >>> params = layer.init(jax.random.key(0), input_size=8)
      >>> state, ys = jaxrnn.unroll(layer, params, jnp.zeros((20, 2, 8)))  # [time, batch, input]
      >>> ys.shape, state[0].c.shape
      ((20, 2, 32), (2, 64))

    Args:
      *layers: The layers. The first one reads the input. A function such as `jax.nn.relu` is the layer
        `Activation(jax.nn.relu)`.
    """

    layers: tuple[Layer, ...]

    def init(self, key: Array, input_size: Any) -> tuple[Params, ...]:
        params = []
        for layer, k in self._layers_and_keys(key):
            check_feature_axes(layer, k, input_size)
            params.append(layer.init(k, input_size))
            input_size = output_size(layer, params[-1], input_size)
        return tuple(params)

    def run(self, params: Params, xs: Any, state: State, key: Array | None, plan: Plan) -> tuple[State, Any]:
        states = []
        for (layer, k), p, s in zip(self._layers_and_keys(key), params, state, strict=True):
            s, xs = layer.run(p, xs, s, k, plan)
            states.append(s)
        return tuple(states), xs
