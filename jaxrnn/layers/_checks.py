"""Checks of the inputs and outputs of layers."""

from __future__ import annotations

from typing import Any

from jax import Array

from jaxrnn.layer import Layer
from jaxrnn.ops import is_symbols


def check_numbers(layer: Layer, xs: Any, what_it_does: str) -> None:
    """Checks that the input holds numbers and no symbols. `what_it_does`, such as "scales its input", says why."""
    if is_symbols(xs):
        raise TypeError(f"{layer} {what_it_does}, so it needs numbers, not symbols: put an Embedding before it")


def check_same_size(layer: Layer, xs: Array, ys: Array) -> None:
    """Checks that the inputs and outputs of a wrapped layer have the same shape, so that they can be added."""
    if xs.shape != ys.shape:
        raise ValueError(
            f"{type(layer).__name__} needs a layer with as many outputs as inputs, but it has {xs.shape[-1]} inputs "
            f"and {ys.shape[-1]} outputs: put a Dense({ys.shape[-1]}) before it"
        )
