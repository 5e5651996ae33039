"""Lists of cotangents. They parallel lists of arrays, with None in place of integers and booleans."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxrnn._tracing import is_narrow
from jaxrnn.ops import spread_like

Leaves = list[Array]


def inexact(leaves: Leaves) -> list[Any]:
    """Replaces integers and booleans by None."""
    return [x if jnp.issubdtype(x.dtype, jnp.inexact) else None for x in leaves]


def in_float32(leaves: list[Any]) -> list[Any]:
    """Casts arrays of lower precision to `float32`, in which sums over steps are computed."""
    return [x.astype(jnp.float32) if x is not None and is_narrow(x.dtype) else x for x in leaves]


def without_integers(cts: Leaves) -> list[Any]:
    """Replaces JAX's cotangents of integers, which have dtype float0, by None."""
    return [None if ct is None or ct.dtype == jax.dtypes.float0 else ct for ct in cts]


def zeros(tree: Any) -> Any:
    """Returns zeros with the shapes and dtypes of a pytree's leaves."""
    return jax.tree.map(lambda x: spread_like(x, jnp.zeros(x.shape, x.dtype)), tree)


def add(a: Any, b: Any) -> Any:
    """Adds two cotangents; None is zero."""
    return b if a is None else a if b is None else a + b


def add_all(a: list[Any], b: list[Any]) -> list[Any]:
    """Adds two lists of cotangents."""
    return [add(x, y) for x, y in zip(a, b, strict=True)]


def sum_to(x: Array, shape: tuple[int, ...]) -> Array:
    """Sums over the leading axes that `shape` does not have."""
    return x.sum(axis=tuple(range(x.ndim - len(shape))))


def vjp(function: Any, *args: Any) -> Any:
    """Applies `jax.vjp` to a function that returns a list and an auxiliary value, with cotangents as above."""
    out, pull, aux = jax.vjp(function, *args, has_aux=True)

    def pull_list(cts: list[Any]) -> Any:
        full = [
            np.zeros(x.shape, jax.dtypes.float0) if ct is None else ct.astype(x.dtype)
            for ct, x in zip(cts, out, strict=True)
        ]
        return tuple(without_integers(cts) for cts in pull(full))

    return pull_list, aux


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Distinct:
    """A list of arrays without duplicates, from which the full list can be restored.

    As the output of a scanned function it makes the loop stack every array once. `places` is static, so that it
    survives the scan.
    """

    arrays: list[Any]
    places: tuple[int, ...] = field(metadata={"static": True})  # of each entry in `[*known, *arrays]`

    @staticmethod
    def of(entries: list[Any], known: list[Any]) -> Distinct:
        """Removes from `entries` what is identical to an earlier entry or to one of `known`."""
        found = list(known)
        places = []
        for entry in entries:
            place = next((n for n, other in enumerate(found) if other is entry), len(found))
            if place == len(found):
                found.append(entry)
            places.append(place)
        return Distinct(found[len(known) :], tuple(places))

    def restore(self, known: list[Any]) -> list[Any]:
        """Returns the full list, given what `known` has become in the meantime."""
        found = [*known, *self.arrays]
        return [found[place] for place in self.places]
