"""A scan that stacks values of low precision in `float32`, where that is faster."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from jaxrnn._tracing import is_narrow, widen
from jaxrnn.loops._any_length import scan_any_length


def cast_like(tree: Any, other: Any) -> Any:
    """Casts the leaves of a pytree to the dtypes of those of another one."""
    return jax.tree.map(lambda x, like: x if x.dtype == like.dtype else x.astype(like.dtype), tree, other)


def stacking_scan(body: Any, constants: Any, carry: Any, xs: Any, *, scan: Any = scan_any_length, **how: Any) -> Any:
    """Runs `scan` with `body(constants, carry, x) -> (carry, y)`, whose `x` and `y` are stacked as `widen` casts them.

    On every backend, constants of low precision are cast to `float32`, so that their gradients are summed over steps in
    that precision.
    """
    wide_constants = jax.tree.map(lambda x: x.astype(jnp.float32) if is_narrow(x.dtype) else x, constants)
    avals = []

    def wide_body(carry: Any, x: Any) -> tuple[Any, Any]:
        carry, y = body(cast_like(wide_constants, constants), carry, cast_like(x, xs))
        avals.append(jax.tree.map(jax.typeof, y))
        return carry, widen(y)

    carry, ys = scan(wide_body, carry, widen(xs), **how)
    return carry, cast_like(ys, avals[-1])
