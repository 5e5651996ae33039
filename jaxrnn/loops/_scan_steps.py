"""`scan_steps`: `lax.scan` over any number of steps, also a symbolic one, and over no arrays."""

from __future__ import annotations

from typing import Any

import jax


def scan_steps(body: Any, carry: Any, xs: Any, length: Any, reverse: bool = False, unroll: int = 1) -> tuple[Any, Any]:
    """Runs `lax.scan`. The length is only needed if `xs` has no arrays, such as those of a cell that ignores its input.

    If there are arrays, `lax.scan` compares the length with theirs, which fails if it is a symbol of `jax.export`.
    """
    return jax.lax.scan(body, carry, xs, None if jax.tree.leaves(xs) else length, reverse, unroll)
