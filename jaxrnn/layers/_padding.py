"""States over time in the padding."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax import Array

from jaxrnn.layer import Plan, State
from jaxrnn.ops import where


def hold_in_padding(states: State, before: State, plan: Plan) -> State:
    """Replaces the states at padded steps by the state after the last valid step that was read, as loops return them.

    Args:
      states: States after all steps, of arrays [time, *batch, ...].
      before: The state before the first step, of arrays [*batch, ...].
      plan: The plan, with the padding.
    """
    if plan.valid is None:
        return states
    time = plan.valid.shape[0]
    steps = jnp.arange(time).reshape(time, *(1,) * (plan.valid.ndim - 1))
    if plan.reverse:
        last = jax.lax.cummin(jnp.where(plan.valid, steps, time), axis=0, reverse=True)
    else:
        last = jax.lax.cummax(jnp.where(plan.valid, steps, -1), axis=0)
    has_read = (last >= 0) & (last < time)

    def hold(states: Array) -> Array:
        index = jnp.clip(last, 0, max(time - 1, 0))
        index = index.reshape(*index.shape, *(1,) * (states.ndim - index.ndim))
        return jnp.take_along_axis(states, index, axis=0)

    first = jax.tree.map(lambda s: s[None], before)
    return where(has_read, jax.tree.map(hold, states), first)
