"""Casts to a dtype, and tests of what a layer's initial state and outputs depend on."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from jaxrnn._cache import cached
from jaxrnn._tracing import Equations
from jaxrnn.layer import Layer, Params, Plan
from jaxrnn.loops import Scan


def cast(tree: Any, dtype: Any) -> Any:
    """Casts real numbers to `dtype`, unless it is None. Integers and complex numbers keep their dtype."""
    if dtype is None:
        return tree
    return jax.tree.map(lambda x: x.astype(dtype) if jnp.issubdtype(x.dtype, jnp.floating) else x, tree)


def depends(function: Callable[[Any], Any], x: Any) -> bool:
    """Returns whether the values of `function(x)` depend on the values of `x`, not only on its shapes and dtypes."""
    traced = Equations(function, x, inline=True)
    needed = set(traced.outs)
    for e in reversed(traced.equations):
        if not needed.isdisjoint(e.outs):
            needed.update(e.ins)
    return not needed.isdisjoint(traced.ins[0])


@cached
def parameters_like(layer: Layer, input_size: Any, dtype: Any = None) -> Params:
    """Returns the shapes and dtypes of a layer's parameters, cast to `dtype`."""
    return jax.eval_shape(lambda: cast(layer.init(jax.random.key(0), input_size), dtype))


def is_random(layer: Layer, input_size: Any) -> bool:
    """Returns whether the layer's outputs or state depend on its random key, as with dropout."""
    axes = input_size if isinstance(input_size, tuple) else (input_size,)
    key = jax.random.key(0)

    def run(key: Array) -> Any:
        params = layer.init(jax.random.key(0), input_size)
        return layer.run(params, jnp.zeros((1, *axes)), layer.initial_state(params), key, Plan(Scan()))

    return depends(run, key)
