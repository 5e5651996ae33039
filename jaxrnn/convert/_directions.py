"""The two directions of a bidirectional layer, joined and separated."""

from __future__ import annotations

from typing import Any

from jaxrnn.layer import Layer
from jaxrnn.layers import Bidirectional, BidirectionalParams


def join_directions(
    forward: tuple[Layer, Any], backward: tuple[Layer, Any], **options: Any
) -> tuple[Bidirectional, BidirectionalParams]:
    """Returns the bidirectional layer of two layers, and its parameters; `options` are further fields of it."""
    (forward_layer, forward_params), (backward_layer, backward_params) = forward, backward
    second = None if forward_layer == backward_layer else backward_layer
    return Bidirectional(forward_layer, backward=second, **options), BidirectionalParams(
        forward_params, backward_params
    )


def split_directions(layer: Bidirectional, params: Any) -> list[tuple[Layer, Any]]:
    """Returns the two layers of a bidirectional layer, each with its parameters."""
    if not isinstance(params, BidirectionalParams):
        raise ValueError(f"the parameters of {layer} must be BidirectionalParams, but they are {type(params).__name__}")
    return [(layer.forward, params.forward), (layer.backward or layer.forward, params.backward)]
