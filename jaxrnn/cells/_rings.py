"""Initial eigenvalues in a ring of the complex plane, for cells with a complex diagonal."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax import Array


def draw_ring(
    k_nu: Array, k_theta: Array, size: int, smallest: float, largest: float, largest_phase: float
) -> tuple[Array, Array]:
    r"""Draws eigenvalues :math:`\exp(-e^{\nu} + i e^{\theta})` uniformly from a ring, and returns nu and theta [size].

    Their moduli are between `smallest` and `largest`, and their phases between 0 and `largest_phase`.
    """
    u = jax.random.uniform(k_nu, (size,), minval=0.01)  # an eigenvalue of zero has no logarithm
    nu = jnp.log(-0.5 * jnp.log(u * (largest**2 - smallest**2) + smallest**2))
    return nu, jnp.log(jax.random.uniform(k_theta, (size,), minval=1e-3) * largest_phase)
