"""`prefetching_scan`: a `lax.scan` that XLA's CPU compiler runs faster."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from jaxrnn.loops._any_length import scan_any_length


def prefetching_scan(
    body: Any, carry: Any, xs: Any, length: Any, reverse: bool = False, unroll: int = 1
) -> tuple[Any, Any]:
    """Runs `lax.scan` with each step's slice of `xs` taken one step before it is read, and carried.

    A slice that is taken where it is read is fused with the operation that reads it. If the result is then stored over
    the carry that it was computed from, the compiler cannot rule out that the store changes the index of the slice. It
    reads the index again for every element and emits scalar code, so that a GRU's step takes twice the time.
    """
    if not isinstance(length, int) or length < 2:  # the length is symbolic, or there is nothing to prefetch
        return scan_any_length(body, carry, xs, length, reverse, unroll)

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
    (carry, _), ys = jax.lax.scan(step, (carry, first), following, length, reverse, unroll)
    return carry, ys
