"""`scan_any_length`: a `lax.scan` over inputs that may be without leaves, of a length that may be symbolic."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp


def scan_any_length(
    body: Any, carry: Any, xs: Any, length: Any, reverse: bool = False, unroll: int = 1
) -> tuple[Any, Any]:
    """Runs `lax.scan`, which takes a symbolic length, as under `jax.export`, only from arrays."""
    if jax.tree.leaves(xs):
        return jax.lax.scan(body, carry, xs, reverse=reverse, unroll=unroll)
    return jax.lax.scan(lambda carry, _: body(carry, xs), carry, jnp.arange(length), reverse=reverse, unroll=unroll)
