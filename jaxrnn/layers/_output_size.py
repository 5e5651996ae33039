"""The output size of a layer."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from jaxrnn import _check as check
from jaxrnn.layer import Layer, Params, Plan
from jaxrnn.layers._checks import check_one_array
from jaxrnn.loops import Scan


def output_size(layer: Layer, params: Params, input_size: Any) -> Any:
    """Returns the output size of a layer. It is found by tracing one step; nothing is computed.

    Example:
      >>> layer = jaxrnn.Bidirectional(jaxrnn.LSTM(64))
      >>> params = layer.init(jax.random.key(0), input_size=8)
      >>> jaxrnn.layers.output_size(layer, params, input_size=8)
      128

    Args:
      layer: A cell or any other layer.
      params: Its parameters, from `layer.init`.
      input_size: The number of input features, or a tuple with the sizes of several feature axes.

    Returns:
      The number of output features, or a tuple with the sizes of several feature axes.

    Raises:
      TypeError: An argument has the wrong type, or the layer's output is not one array.
      ValueError: An input size is negative.
    """
    ys = outputs(layer, params, input_size)
    check_one_array(layer, ys)
    return size_of(ys)


def outputs(layer: Layer, params: Params, input_size: Any) -> Any:
    """Returns the shapes and dtypes of a layer's outputs for one step, [1, ...]."""
    if not isinstance(layer, Layer):
        raise TypeError(f"layer must be a jaxrnn layer, but it is {check.described(layer)}{check.did_you_mean(layer)}")
    axes = input_size if isinstance(input_size, tuple) else (input_size,)
    message = (
        f"input_size must be a number of features or a tuple of sizes such as (28, 28, 3), but it is {input_size!r}"
    )
    if not all(check.is_integer(size) for size in axes):
        raise TypeError(message)
    if not axes or min(axes) < 0:
        raise ValueError(message)

    def run(params: Params, xs: Array) -> Array:
        _, ys = layer.run(params, xs, layer.initial_state(params), None, Plan(Scan()))
        return ys

    return jax.eval_shape(run, params, jax.ShapeDtypeStruct((1, *axes), jnp.result_type(float)))


def size_of(ys: Any) -> Any:
    """Returns the number of features of an output [1, ...], or a tuple with the sizes of several feature axes."""
    _, *size = ys.shape
    return size[0] if len(size) == 1 else tuple(size)
