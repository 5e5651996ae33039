"""Checks of a conversion's arguments, and the error for a layer that cannot be converted."""

from __future__ import annotations

import functools
from collections.abc import Iterable
from typing import Any

import jax
import jax.numpy as jnp
from jax.nn import sigmoid
from jax.numpy import tanh

from jaxrnn._check import described, did_you_mean
from jaxrnn.cells import Elman
from jaxrnn.layer import Cell, Layer

WHY_NOT = {
    "GRU": "it applies the reset gate after the recurrent product, not before it",
    "ResetBeforeGRU": "it applies the reset gate before the recurrent product, not after it",
    "ResetAfterMGU": "it has a single gate, which both resets and updates",
    "PeepholeLSTM": "its gates read the memory cell",
    "ProjectedLSTM": "its hidden state is a projection",
}
FIELDS_WITH_LAYERS = {
    "cell": "its cell",
    "layer": "its layer",
    "layers": "each of its layers",
    "forward": "each of its two layers",
}


def check_params(cell: Cell, params: Any) -> Any:
    """Returns the parameters of a cell if they have the structure and the shapes of those from its `init`."""
    shape = jnp.shape(getattr(params, "w_x", 0))
    expected = _param_shapes(cell, input_size=max(1, shape[0]) if shape else 1)
    shapes = jax.tree.map(jnp.shape, params)
    if shapes != expected or type(shapes) is not type(expected):
        raise ValueError(f"the parameters of {cell} must have the shapes {expected}, but they have {shapes}")
    return params


@functools.lru_cache
def _param_shapes(cell: Cell, input_size: int) -> Any:
    return jax.tree.map(jnp.shape, jax.eval_shape(lambda key: cell.init(key, input_size), jax.random.key(0)))


def check_flag(name: str, value: Any) -> None:
    """Checks that an option is True or False."""
    if not isinstance(value, bool):
        raise TypeError(f"{name} must be True or False, but it is {value!r}")


def check_string(name: str, value: Any) -> None:
    """Checks that an option is a string."""
    if not isinstance(value, str):
        raise TypeError(f"{name} must be a string, but it is {value!r}")


def check_activations(cell: Any, library: str) -> None:
    """Checks that a gated cell has the default activations, the only ones that some libraries have."""
    if not isinstance(cell, Elman) and (cell.activation is not tanh or cell.gate_activation is not sigmoid):
        raise TypeError(f"{cell} cannot be converted to {library}: its activations must be jnp.tanh and jax.nn.sigmoid")


def cannot_convert(layer: Any, library: str, convertible: Iterable[type]) -> TypeError:
    """Returns the error for a layer that is none of the layers that can be converted to a library."""
    if not isinstance(layer, Layer):
        return TypeError(f"layer must be a jaxrnn layer, but it is {described(layer)}{did_you_mean(layer)}")
    names = ", ".join(kind.__name__ for kind in convertible)
    reason = WHY_NOT.get(type(layer).__name__, f"only {names} can be converted")
    for field, parts in FIELDS_WITH_LAYERS.items():
        if hasattr(layer, field):
            reason = f"convert {parts}"
    return TypeError(f"{layer} cannot be converted to {library}: {reason}")
