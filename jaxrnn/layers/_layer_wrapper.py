"""Base of layers that wrap one other layer."""

from __future__ import annotations

from typing import Any

from jax import Array

from jaxrnn import _check as check
from jaxrnn.layer import Layer, Params, State


class LayerWrapper(Layer):
    """A layer that wraps one other layer and has its parameters and its state."""

    layer: Layer

    def __post_init__(self) -> None:
        check.instance(self, "layer", Layer, "a jaxrnn layer")

    @property
    def causal(self) -> bool:
        return self.layer.causal

    @property
    def num_feature_axes(self) -> int:  # type: ignore[override]
        return self.layer.num_feature_axes

    def init(self, key: Array, input_size: Any) -> Params:
        return self.layer.init(key, input_size)

    def initial_state(self, params: Params, batch_shape: tuple[int, ...] = (), dtype: Any = None) -> State:
        return self.layer.initial_state(params, batch_shape, dtype)
