"""Layers one after the other."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from jax import Array

from jaxrnn.layer import Layer, Params, Plan, State
from jaxrnn.layers._output_size import output_size
from jaxrnn.layers._several import Several


@dataclass(frozen=True, init=False, repr=False)
class Stack(Several):
    """Layers one after the other: each reads what the one before puts out.

    Parameters and states are tuples, one entry a layer.

    Args:
      layers: the layers, first the one that reads the input.
    """

    layers: tuple[Layer, ...]

    def init(self, key: Array, input_size: Any) -> tuple[Params, ...]:
        params = []
        for layer, k in self._each(key):
            params.append(layer.init(k, input_size))
            input_size = output_size(layer, params[-1], input_size)
        return tuple(params)

    def run(self, params: Params, xs: Any, state: State, key: Array | None, plan: Plan) -> tuple[State, Any]:
        states = []
        for (layer, k), p, s in zip(self._each(key), params, state, strict=True):
            s, xs = layer.run(p, xs, s, k, plan)
            states.append(s)
        return tuple(states), xs
