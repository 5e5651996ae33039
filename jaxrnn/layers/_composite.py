"""Base of layers that are composed of several layers."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import jax
from jax import Array

from jaxrnn import _check as check
from jaxrnn.layer import Layer, Params, State


class Composite(Layer):
    """A layer composed of several layers. Its parameters and state are tuples with one entry per layer."""

    layers: tuple[Layer, ...]

    def __init__(self, *layers: Layer):
        object.__setattr__(self, "layers", layers)
        self.__post_init__()

    def __post_init__(self) -> None:
        name = type(self).__name__
        if not self.layers:
            raise TypeError(f"{name}'s layers must be one or more jaxrnn layers, but there is none")
        for layer in self.layers:
            if isinstance(layer, list | tuple):
                raise TypeError(
                    f"{name}'s layers must be jaxrnn layers, but one is {layer!r}: write {name}(*layers) to unpack it"
                )
            if not isinstance(layer, Layer):
                hint = check.did_you_mean(layer)
                raise TypeError(f"{name}'s layers must be jaxrnn layers, but one is {layer!r}{hint}")

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(map(repr, self.layers))})"

    @property
    def causal(self) -> bool:
        return all(layer.causal for layer in self.layers)

    @property
    def num_feature_axes(self) -> int:  # type: ignore[override]
        # A layer without a state has one feature axis, also where it is used between layers of images.
        return max(layer.num_feature_axes for layer in self.layers)

    def initial_state(self, params: Params, batch_shape: tuple[int, ...] = (), dtype: Any = None) -> State:
        pairs = zip(self.layers, params, strict=True)
        return tuple(layer.initial_state(p, batch_shape, dtype) for layer, p in pairs)

    def _layers_and_keys(self, key: Array | None) -> Iterable[tuple[Layer, Any]]:
        """Pairs each layer with a random key of its own, or with None in evaluation."""
        keys = [None] * len(self.layers) if key is None else jax.random.split(key, len(self.layers))
        return zip(self.layers, keys, strict=True)
