"""The kinds of numbers, so that no cast silently discards imaginary parts or fractions."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

KINDS = (jnp.bool_, jnp.integer, jnp.floating, jnp.complexfloating)


def discards(dtype: Any, other: Any) -> bool:
    """Returns whether a cast to another dtype discards more than precision: imaginary parts, fractions or counts.

    Only equal dtypes are sure to keep what is not a number, such as a random key.
    """
    if dtype == other:
        return False
    kinds = [next((n for n, kind in enumerate(KINDS) if jnp.issubdtype(d, kind)), None) for d in (dtype, other)]
    return None in kinds or kinds[0] > kinds[1]  # type: ignore[operator]


def cast(x: Array, dtype: Any) -> Array:
    """Casts an array of the state after a step to the dtype that it had before the step.

    Raises:
      TypeError: The cast would discard imaginary parts or fractions.
    """
    if discards(x.dtype, dtype):
        raise TypeError(
            f"an array of the state must not become {x.dtype} in a step if it is {dtype} before: "
            "cast it in step, or return another dtype from initial_state"
        )
    return x.astype(dtype)


def with_dtypes_of(before: Any, after: Any) -> Any:
    """Casts a state after a step to the dtypes that it had before the step, as `cast` does."""
    return jax.tree.map(lambda old, new: cast(new, old.dtype), before, after)
