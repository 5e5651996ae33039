"""Reads the same sequences in the other direction."""

from __future__ import annotations

import jax.numpy as jnp
from jax import Array

from jaxrnn.layer import Plan


def reversed_plan(plan: Plan) -> Plan:
    """Returns the plan that reads the same sequences in the other direction."""
    resets = seen_from_the_end(plan.resets, plan.valid, plan.reverse)
    return plan._replace(reverse=not plan.reverse, resets=resets)


def seen_from_the_end(resets: Array | None, valid: Array | None, reverse: bool = False) -> Array | None:
    """Returns the resets that separate the same sequences when the steps are read in the other direction.

    The first step of a sequence comes right after the last step of the one before it. In the other direction, that
    last step is read first, so the reset moves there.

    Args:
      resets: Booleans [time, *batch], True where a sequence begins, or None.
      valid: Booleans [time, *batch], False in the padding, or None.
      reverse: Whether `resets` are meant for reading the last step first.
    """
    if resets is None:
        return None
    resets = resets if valid is None else resets & valid  # a reset in the padding must not move onto a valid step
    no_resets = jnp.zeros_like(resets[:1])
    if reverse:
        return jnp.concatenate([no_resets, resets[:-1]])
    return jnp.concatenate([resets[1:], no_resets])
