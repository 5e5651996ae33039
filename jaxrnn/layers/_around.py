"""Base of layers around one other layer."""

from __future__ import annotations

from typing import Any

from jax import Array

from jaxrnn import _check as check
from jaxrnn.layer import Layer, Params, State
from jaxrnn.ops import is_symbols


class Around(Layer):
    """A layer around one other, with its state."""

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


def check_numbers(layer: Layer, xs: Any) -> None:
    if is_symbols(xs):
        raise TypeError(f"{layer} passes its input on, so it needs numbers, not symbols: put an Embedding before it")


def check_sizes(layer: Layer, xs: Array, ys: Array) -> None:
    if xs.shape != ys.shape:
        raise ValueError(
            f"{type(layer).__name__} needs a layer with as many outputs as inputs, but {xs.shape[-1]} went in and "
            f"{ys.shape[-1]} came out: put a Dense({ys.shape[-1]}) before it"
        )
