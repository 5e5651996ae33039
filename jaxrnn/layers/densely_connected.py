"""Layers that read the outputs of all layers before them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp
from jax import Array

from jaxrnn.layer import Layer, Params, Plan, State
from jaxrnn.layers._around import check_numbers
from jaxrnn.layers._output_size import output_size
from jaxrnn.layers._several import Several
from jaxrnn.ops import num_features


@dataclass(frozen=True, init=False, repr=False)
class DenselyConnected(Several):
    r"""Layers each of which reads the input and the outputs of all layers before it, side by side.

    .. math:: y^l = L^l([x, y^1, \dots, y^{l-1}]), \quad y = [x, y^1, \dots, y^n]

    Parameters and states are tuples, one entry a layer.

    Args:
      layers: the layers, first the one that reads the input alone.

    References: G. Huang et al., "Densely connected convolutional networks", 2017.
    """

    layers: tuple[Layer, ...]

    def init(self, key: Array, input_size: Any) -> tuple[Params, ...]:
        params = []
        for layer, k in self._each(key):
            params.append(layer.init(k, input_size))
            features = num_features(input_size) + num_features(output_size(layer, params[-1], input_size))
            input_size = (*input_size[:-1], features) if isinstance(input_size, tuple) else features
        return tuple(params)

    def run(self, params: Params, xs: Any, state: State, key: Array | None, plan: Plan) -> tuple[State, Any]:
        check_numbers(self, xs)
        states = []
        for (layer, k), p, s in zip(self._each(key), params, state, strict=True):
            s, ys = layer.run(p, xs, s, k, plan)
            states.append(s)
            xs = jnp.concatenate([xs, ys], axis=-1)
        return tuple(states), xs
