"""Inputs of a `Stream`: checked, and padded to arrays of one shape."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxrnn._diagnosis import as_array, check_kind
from jaxrnn.layer import Layer, num_feature_axes


def num_steps(xs: Any) -> int:
    """Returns the number of steps of inputs [time, ...], which is 0 for None and other pytrees without arrays."""
    leading_shapes = {np.shape(x)[:1] for x in jax.tree.leaves(xs)}
    if len(leading_shapes) > 1 or () in leading_shapes:
        raise ValueError(f"the steps of a sequence must be arrays [time, ...] of one length, but they are {xs!r}")
    return max(leading_shapes)[0] if leading_shapes else 0


def check_alike(layer: Layer, inputs: Sequence[Any]) -> None:
    """Checks that inputs [time or slots, ...] fit the layer, and differ only in their values and the first axis."""
    for leaf in jax.tree.leaves(inputs):
        check_kind("xs", as_array("xs", leaf))
    described = [[f"{x.dtype} [{', '.join(map(str, x.shape[1:]))}]" for x in jax.tree.leaves(xs)] for xs in inputs]
    kinds = [[(jnp.issubdtype(x.dtype, np.integer), x.shape[1:]) for x in jax.tree.leaves(xs)] for xs in inputs]
    axes = layer.num_feature_axes
    if any(x.ndim != 1 + num_feature_axes(layer, x) for xs in inputs for x in jax.tree.leaves(xs)):
        raise ValueError(
            f"each step must have {axes} feature {'axis' if axes == 1 else 'axes'}, or be an integer symbol, "
            f"but the inputs are {described}"
        )
    structures = [jax.tree.structure(xs) for xs in inputs]
    if any(kind != kinds[0] for kind in kinds) or any(structure != structures[0] for structure in structures):
        raise ValueError(
            f"the inputs of all slots must have the same structure, shape and kind of dtype, but they are {described}"
        )


def pad_to_batch(sequences: Sequence[Any], columns: Sequence[int], shape: tuple[int, int]) -> Any:
    """Returns arrays [*shape, ...] of zeros with inputs [time, ...] of several sequences, each in its own column."""

    def fill(*xs: np.ndarray) -> np.ndarray:
        batch = np.zeros((*shape, *xs[0].shape[1:]), np.result_type(*xs))
        for x, column in zip(xs, columns, strict=True):
            batch[: len(x), column] = x
        return batch

    return jax.tree.map(fill, *sequences)
