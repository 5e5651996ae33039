"""A cache for functions of values, such as layers and sizes."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import jax


def cached(function: Callable[..., Any]) -> Callable[..., Any]:
    """Returns a function that computes the result for equal arguments once, if they can be hashed.

    The dtypes of arrays depend on `jax_enable_x64`, so results are kept for each of its values.
    """
    remembered = functools.lru_cache(maxsize=1024)(lambda x64, *args: function(*args))

    @functools.wraps(function)
    def wrapper(*args: Any) -> Any:
        if is_hashable(args):
            return remembered(jax.config.jax_enable_x64, *args)  # type: ignore[attr-defined]
        return function(*args)

    return wrapper


def is_hashable(value: Any) -> bool:
    """Returns whether a value can be hashed, with all that it contains."""
    try:
        hash(value)
    except TypeError:
        return False
    return True
