"""What the conversions share: arrays that keep their dtype, shapes that must fit, and why a layer is refused."""

from __future__ import annotations

import functools
from collections.abc import Iterable
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from jaxrnn.layer import Cell, Layer
from jaxrnn.layers import Bidirectional, BidirectionalParams

REASONS = {
    "GRU": "it resets after the recurrent product, not before it",
    "ResetBeforeGRU": "it resets before the recurrent product, not after it",
    "ResetAfterMGU": "its one gate both resets and updates",
    "PeepholeLSTM": "its gates see the memory cell",
    "ProjectedLSTM": "its hidden state is a projection",
}
INNER = {"cell": "its cell", "layer": "its layer", "layers": "each of its layers", "forward": "each of its two layers"}


def array(x: Any) -> Array:
    """An array of the same dtype, or an error: never silently a narrower one."""
    y = jnp.asarray(x)
    if hasattr(x, "dtype") and x.dtype != y.dtype:
        raise ValueError(
            f"weights must keep their dtype {x.dtype}, but JAX would make them {y.dtype}: "
            "call jax.config.update('jax_enable_x64', True), or cast them before"
        )
    return y


def join(*arrays: Array) -> Array:
    """Gates side by side."""
    if len({x.shape for x in arrays}) != 1 or not arrays[0].ndim:
        raise ValueError(
            f"the gates of a cell must have weights of one shape, but theirs are {[x.shape for x in arrays]}"
        )
    return jnp.concatenate(arrays, axis=-1)


def split(x: Array, number: int) -> list[Array]:
    """The gates apart."""
    if not x.ndim or x.shape[-1] % number:
        raise ValueError(
            f"weights must have {number} gates of one size on their last axis, but their shape is {x.shape}"
        )
    return jnp.split(x, number, axis=-1)


def reorder(x: Array, order: tuple[int, ...]) -> Array:
    """The gates in another order."""
    gates = split(x, len(order))
    return join(*(gates[n] for n in order))


def checked(cell: Cell, params: Any) -> Any:
    """A cell's parameters, if they have the structure and the shapes of those that its `init` draws."""
    wanted = _shapes(cell, max(1, 1, *jnp.shape(getattr(params, "w_x", 0))[:1]))
    shapes = jax.tree.map(jnp.shape, params)
    if shapes != wanted or type(shapes) is not type(wanted):
        raise ValueError(f"the parameters of {cell} must have the shapes {wanted}, but they have {shapes}")
    return params


@functools.lru_cache
def _shapes(cell: Cell, input_size: int) -> Any:
    return jax.tree.map(jnp.shape, jax.eval_shape(lambda key: cell.init(key, input_size), jax.random.key(0)))


def pair(forward: tuple[Layer, Any], backward: tuple[Layer, Any], **merge: Any) -> tuple[Bidirectional, Any]:
    """The bidirectional layer of two layers, and its parameters."""
    (one, p_forward), (other, p_backward) = forward, backward
    return Bidirectional(one, None if one == other else other, **merge), BidirectionalParams(p_forward, p_backward)


def directions(layer: Bidirectional, params: Any) -> list[tuple[Layer, Any]]:
    """A bidirectional layer's two layers and their parameters."""
    if not isinstance(params, BidirectionalParams):
        raise ValueError(f"the parameters of {layer} must be BidirectionalParams, but they are {type(params).__name__}")
    return [(layer.forward, params.forward), (layer.backward or layer.forward, params.backward)]


def refusal(layer: Any, library: str, known: Iterable[type]) -> TypeError:
    """The error for a layer of which a library has no counterpart among those that are known."""
    if not isinstance(layer, Layer):
        return TypeError(f"layer must be a jaxrnn layer, but it is {layer!r}")
    reason = REASONS.get(type(layer).__name__, f"only {', '.join(kind.__name__ for kind in known)} can")
    for name, parts in INNER.items():
        if hasattr(layer, name):
            reason = f"convert {parts}"
    return TypeError(f"{layer} cannot be converted to {library}: {reason}")
