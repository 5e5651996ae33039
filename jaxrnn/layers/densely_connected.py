"""Layers in which each reads the outputs of all layers before it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp
from jax import Array

from jaxrnn import _check as check
from jaxrnn.layer import Layer, Params, Plan, State
from jaxrnn.layers._checks import check_feature_axes, check_one_array
from jaxrnn.layers._composite import Composite
from jaxrnn.layers._output_size import output_size
from jaxrnn.ops import num_features


@dataclass(frozen=True, init=False, repr=False)
class DenselyConnected(Composite):
    r"""Layers in which each reads the input and the outputs of all layers before it.

    .. math:: y^l = L^l([x, y^1, \dots, y^{l-1}]), \quad y = [x, y^1, \dots, y^n]

    Parameters and states are tuples with one entry per layer. The output is :math:`y`, the input and all outputs
    concatenated on the feature axis.

    Example:
      >>> layer = jaxrnn.DenselyConnected(jaxrnn.GRU(32), jaxrnn.GRU(64))
      >>> params = layer.init(jax.random.key(0), input_size=8)
      >>> params[1].w_x.shape  # the second layer reads 8 + 32 features
      (40, 192)
      >>> state, ys = jaxrnn.unroll(layer, params, jnp.zeros((20, 2, 8)))  # [time, batch, input]
      >>> ys.shape
      (20, 2, 104)

    Args:
      *layers: The layers. The first one reads only the input. A function such as `jax.nn.relu` becomes the layer
        `Activation(jax.nn.relu)`.

    References:
      G. Huang, Z. Liu, L. van der Maaten, K. Weinberger, "Densely connected convolutional networks", 2017.
    """

    layers: tuple[Layer, ...]

    def init(self, key: Array, input_size: Any) -> tuple[Params, ...]:
        params = []
        for layer, k in self._layers_and_keys(key):
            check_feature_axes(layer, k, input_size)
            params.append(layer.init(k, input_size))
            features = num_features(input_size) + num_features(output_size(layer, params[-1], input_size))
            input_size = (*input_size[:-1], features) if isinstance(input_size, tuple) else features
        return tuple(params)

    def run(self, params: Params, xs: Any, state: State, key: Array | None, plan: Plan) -> tuple[State, Any]:
        check.numbers(self, xs, "passes its input on")
        states = []
        for (layer, k), p, s in zip(self._layers_and_keys(key), params, state, strict=True):
            s, ys = layer.run(p, xs, s, k, plan)
            states.append(s)
            check_one_array(layer, ys)
            xs = jnp.concatenate([xs, ys], axis=-1)
        return tuple(states), xs
