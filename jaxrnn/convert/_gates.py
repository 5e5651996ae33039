"""Weights of several gates, side by side on the last axis of an array."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
from jax import Array


def as_array(x: Any) -> Array:
    """Returns a JAX array of the same dtype, and never silently one of a narrower dtype."""
    y = jnp.asarray(x)
    if hasattr(x, "dtype") and x.dtype != y.dtype:
        raise ValueError(
            f"weights must keep their dtype {x.dtype}, but JAX would make them {y.dtype}: "
            "call jax.config.update('jax_enable_x64', True), or cast them first"
        )
    return y


def join_gates(*gates: Array) -> Array:
    """Concatenates the weights of several gates on the last axis."""
    shapes = [gate.shape for gate in gates]
    if len(set(shapes)) != 1 or not gates[0].ndim:
        raise ValueError(f"the gates of a cell must have weights of one shape, but their shapes are {shapes}")
    return jnp.concatenate(gates, axis=-1)


def split_gates(w: Array, number: int) -> list[Array]:
    """Splits weights on the last axis into those of `number` gates."""
    if not w.ndim or w.shape[-1] % number:
        raise ValueError(
            f"weights must have {number} gates of one size on their last axis, but their shape is {w.shape}"
        )
    return jnp.split(w, number, axis=-1)


def reorder_gates(w: Array, order: tuple[int, ...]) -> Array:
    """Returns weights whose n-th gate is gate `order[n]` of the given ones."""
    gates = split_gates(w, len(order))
    return join_gates(*(gates[n] for n in order))
