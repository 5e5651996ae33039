"""Base of layers that consist of several layers."""

from __future__ import annotations

from typing import Any

import jax
from jax import Array

from jaxrnn import _check as check
from jaxrnn.layer import Layer, Params, State


class Several(Layer):
    """Layers whose parameters and states are tuples, one entry a layer."""

    layers: tuple[Layer, ...]

    def __init__(self, *layers: Layer):
        if not layers:
            raise TypeError(f"{type(self).__name__} must have at least one layer, but it was given none")
        for layer in layers:
            if not isinstance(layer, Layer):
                hint = check.did_you_mean(layer)
                raise TypeError(f"{type(self).__name__}'s layers must be jaxrnn layers, but one is {layer!r}{hint}")
        object.__setattr__(self, "layers", layers)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(map(repr, self.layers))})"

    @property
    def causal(self) -> bool:
        return all(layer.causal for layer in self.layers)

    @property
    def num_feature_axes(self) -> int:  # type: ignore[override]
        return max(layer.num_feature_axes for layer in self.layers)  # layers without a state read the last axis alone

    def initial_state(self, params: Params, batch_shape: tuple[int, ...] = (), dtype: Any = None) -> State:
        pairs = zip(self.layers, params, strict=True)
        return tuple(layer.initial_state(p, batch_shape, dtype) for layer, p in pairs)

    def _each(self, key: Array | None) -> Any:
        """The layers with a key each."""
        keys = [None] * len(self.layers) if key is None else jax.random.split(key, len(self.layers))
        return zip(self.layers, keys, strict=True)
