"""A `lax.scan` whose length may be symbolic even if its inputs have no leaves."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp


def scan_any_length(
    body: Any, carry: Any, xs: Any, length: Any, reverse: bool = False, unroll: int = 1
) -> tuple[Any, Any]:
    """Runs `lax.scan`, which accepts a symbolic length, as under `jax.export`, only as the length of an array."""
    if jax.tree.leaves(xs):
        return jax.lax.scan(body, carry, xs, reverse=reverse, unroll=unroll)
    return jax.lax.scan(lambda carry, _: body(carry, xs), carry, jnp.arange(length), reverse=reverse, unroll=unroll)
