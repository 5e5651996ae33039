"""`prefetching_scan`: a `lax.scan` for XLA's CPU compiler."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp


def prefetching_scan(body: Any, carry: Any, xs: Any, reverse: bool = False, unroll: int = 1) -> tuple[Any, Any]:
    """`lax.scan` that carries each step's slice of `xs`, taken a step before it is read.

    A slice taken where it is read is fused with what reads it. Where a result of that is stored over the
    carry it was made of, the compiler can not rule out that the store changes the slice's index, reads the index
    again for every element, and makes scalar code: a GRU's step then takes twice the time.
    """
    length = jax.tree.leaves(xs)[0].shape[0]
    if not isinstance(length, int) or length < 2:  # of any length, for `jax.export`: there may be no first slice
        return jax.lax.scan(body, carry, xs, reverse=reverse, unroll=unroll)

    def at(t: Any) -> Any:
        return jax.tree.map(lambda x: jax.lax.dynamic_index_in_dim(x, t, keepdims=False), xs)

    def step(carry_and_x: Any, t: Any) -> Any:
        carry, x = carry_and_x
        following = at(t)
        carry, y = body(carry, x)
        return (carry, following), y

    steps = jnp.arange(length)
    following = jnp.maximum(steps - 1, 0) if reverse else jnp.minimum(steps + 1, length - 1)
    first = at(length - 1 if reverse else 0)
    (carry, _), ys = jax.lax.scan(step, (carry, first), following, reverse=reverse, unroll=unroll)
    return carry, ys
