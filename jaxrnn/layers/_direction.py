"""What it means to read the same sequences in the other direction."""

from __future__ import annotations

import jax.numpy as jnp
from jax import Array

from jaxrnn.layer import Plan


def turned(plan: Plan) -> Plan:
    """The same run, read in the other direction."""
    resets = seen_from_the_end(plan.resets, plan.valid, plan.reverse)
    return plan._replace(reverse=not plan.reverse, resets=resets)


def seen_from_the_end(resets: Array | None, valid: Array | None, reverse: bool = False) -> Array | None:
    """The resets that part the same sequences when the steps are read in the other direction than `reverse`.

    A sequence that begins at a step ends the one before it: read backwards, that one begins a step earlier.
    """
    if resets is None:
        return None
    resets = resets if valid is None else resets & valid  # none may come out of the padding
    nowhere = jnp.zeros_like(resets[:1])
    if reverse:
        return jnp.concatenate([nowhere, resets[:-1]])
    return jnp.concatenate([resets[1:], nowhere])
