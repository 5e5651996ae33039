"""The output size of a layer, found by tracing it."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from jaxrnn.layer import Layer, Params, Plan
from jaxrnn.loops import Scan


def output_size(layer: Layer, params: Params, input_size: Any) -> Any:
    """The number of output features of a layer, or the shape of several axes, found by tracing one step."""
    axes = input_size if isinstance(input_size, tuple) else (input_size,)

    def run(params: Params, xs: Array) -> Array:
        return layer.run(params, xs, layer.initial_state(params), None, Plan(Scan()))[1]

    _, *size = jax.eval_shape(run, params, jax.ShapeDtypeStruct((1, *axes), jnp.result_type(float))).shape
    return size[0] if len(size) == 1 else tuple(size)
