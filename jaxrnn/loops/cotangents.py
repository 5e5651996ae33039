"""Lists of cotangents, like the lists of arrays they belong to, with None in the place of integers and booleans."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxrnn.ops import spread_like

Leaves = list[Array]


def is_inexact(x: Any) -> bool:
    return jnp.issubdtype(x.dtype, jnp.inexact)


def inexact(leaves: Leaves) -> list[Any]:
    return [x if is_inexact(x) else None for x in leaves]


def without_integers(cts: Leaves) -> list[Any]:
    return [None if ct is None or ct.dtype == jax.dtypes.float0 else ct for ct in cts]


def zeros(tree: Any) -> Any:
    return jax.tree.map(lambda x: spread_like(x, jnp.zeros(x.shape, x.dtype)), tree)


def add(a: Any, b: Any) -> Any:
    return b if a is None else a if b is None else a + b


def add_all(a: list[Any], b: list[Any]) -> list[Any]:
    return [add(x, y) for x, y in zip(a, b, strict=True)]


def sum_to(x: Array, shape: tuple[int, ...]) -> Array:
    return x.sum(axis=tuple(range(x.ndim - len(shape))))


def vjp(function: Any, *args: Any) -> Any:
    """`jax.vjp` of a function of lists and a side output, with cotangents as above."""
    out, pull, aux = jax.vjp(function, *args, has_aux=True)

    def pull_list(cts: list[Any]) -> Any:
        full = [
            np.zeros(x.shape, jax.dtypes.float0) if ct is None else ct.astype(x.dtype)
            for ct, x in zip(cts, out, strict=True)
        ]
        return tuple(without_integers(cts) for cts in pull(full))

    return pull_list, aux


def unique(leaves: list[Any]) -> tuple[Leaves, list[int]]:
    """The arrays that differ, and where each one stands among them: what is equal is stacked once."""
    out: list[Any] = []
    layout = []
    for leaf in leaves:
        place = next((n for n, other in enumerate(out) if other is leaf), len(out))
        if place == len(out):
            out.append(leaf)
        layout.append(place)
    return out, layout


def cut(leaves: list[Any], *sizes: int) -> Any:
    """The first so many, the next so many, ..., and the rest."""
    for size in sizes:
        yield leaves[:size]
        leaves = leaves[size:]
    yield leaves
