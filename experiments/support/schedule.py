"""Learning rates over the course of a run, as fractions of the peak."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
from jax import Array


def cosine(progress: Any) -> Array:
    """Falls from 1 to 0 as the progress goes from 0 to 1."""
    return 0.5 + 0.5 * jnp.cos(jnp.pi * jnp.minimum(progress, 1))


def warmup_cosine(step: Any, progress: Any, warmup: int = 100) -> Array:
    """Rises for `warmup` steps, and falls to 0 like `cosine`."""
    return jnp.minimum(1, (step + 1) / warmup) * cosine(progress)
