"""Checks of the inputs and outputs of layers."""

from __future__ import annotations

from jax import Array

from jaxrnn.layer import Layer


def check_same_size(layer: Layer, xs: Array, ys: Array) -> None:
    """Checks that the inputs and outputs of a wrapped layer have the same shape, so that they can be added."""
    if xs.shape != ys.shape:
        raise ValueError(
            f"{type(layer).__name__} needs a layer with as many outputs as inputs, but it has {xs.shape[-1]} inputs "
            f"and {ys.shape[-1]} outputs: put a Dense({ys.shape[-1]}) before it"
        )
