"""Linear recurrences whose matrices are block diagonal."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

SMALL = 4  # largest size of matrices that are multiplied elementwise, because batched products have an overhead


def solve_linear(a: Array, b: Array) -> Array:
    """Solves x_t = a_t x_{t-1} + b_t, beginning with zero, by an associative scan.

    Products that overflow are replaced by zero. The result is then finite but wrong, so the caller must check it.

    Args:
      a: Matrices [time, ..., R, R].
      b: Vectors [time, ..., R].
    """

    def compose(first: Any, second: Any) -> Any:
        (a, b), (c, d) = first, second
        return _finite_or_zero(multiply(c, a)), _finite_or_zero(multiply(c, b[..., None])[..., 0] + d)

    return jax.lax.associative_scan(compose, (a, b))[1]


def multiply(a: Array, b: Array) -> Array:
    """Returns the product of matrices [..., R, R] and [..., R, n]."""
    if a.shape[-1] == 1:
        return a * b
    if a.shape[-1] <= SMALL:
        return (a[..., :, :, None] * b[..., None, :, :]).sum(-2)
    return jnp.matmul(a, b, precision=jax.lax.Precision.HIGHEST)


def _finite_or_zero(x: Array) -> Array:
    return jnp.where(jnp.isfinite(x), x, 0)
