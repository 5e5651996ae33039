"""Arrays of low precision on a CPU, which loops store as `float32`."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp


def widen(tree: Any) -> Any:
    """Casts the leaves of low precision to `float32` on a CPU, and returns all others unchanged.

    XLA's CPU compiler converts a whole stacked array of `bfloat16` or `float16` to `float32` and back whenever a loop
    reads or stores one step of it, so that the time would grow with the square of the number of steps. The cast is
    exact, and casting back returns the same values.
    """
    if jax.default_backend() != "cpu":
        return tree
    return jax.tree.map(lambda x: x.astype(jnp.float32) if is_narrow(x.dtype) else x, tree)


def is_narrow(dtype: Any) -> bool:
    """Returns whether a dtype is a real one of less than 32 bits."""
    return jnp.issubdtype(dtype, jnp.floating) and jnp.finfo(dtype).bits < 32
