"""Checks of the inputs and outputs of layers."""

from __future__ import annotations

from typing import Any

import jax
from jax import Array

from jaxrnn.layer import Layer
from jaxrnn.ops import num_features


def is_one_array(ys: Any) -> bool:
    """Returns whether an output is one array and not a pytree of several."""
    return jax.tree.structure(ys) == jax.tree.structure(0)


def check_one_array(layer: Layer, ys: Any) -> None:
    """Checks that the output of a layer is one array. A cell may output any pytree, but most layers read one array."""
    if not is_one_array(ys):
        raise TypeError(f"the output of {layer} must be one array so that a layer can read it, but it is {several(ys)}")


def several(ys: Any) -> str:
    """Describes an output that is not one array."""
    return f"a {type(ys).__name__} of {len(jax.tree.leaves(ys))} arrays"


def check_same_size(layer: Layer, inner: Layer, xs: Array, ys: Any) -> None:
    """Checks that the inputs and outputs of a wrapped layer have the same shape, so that they can be added."""
    check_one_array(inner, ys)
    if xs.shape != ys.shape:
        raise ValueError(
            f"{type(layer).__name__} needs a layer with as many outputs as inputs, but it has {xs.shape[-1]} inputs "
            f"and {ys.shape[-1]} outputs: put a Dense({ys.shape[-1]}) before it"
        )


def check_feature_axes(layer: Layer, key: Array, input_size: Any) -> None:
    """Checks that a layer that carries a state along one feature axis is not given an input of several axes.

    Layers without a state, such as `Dense`, are applied at every pixel of an image.
    """
    if not isinstance(input_size, tuple) or len(input_size) == 1 or layer.num_feature_axes != 1:
        return
    state = jax.eval_shape(lambda: layer.initial_state(layer.init(key, num_features(input_size))))
    if jax.tree.leaves(state):
        raise ValueError(
            f"{layer} reads inputs with one feature axis, but its input size is {input_size}: "
            "flatten the inputs first, or use a layer for images such as ConvLSTM"
        )
