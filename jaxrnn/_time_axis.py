"""Time that is sharded over a mesh axis: each device has a contiguous part of the steps, in the order of the devices.

The functions are called inside `jax.shard_map`, and `axis_name` is the name of the mesh axis. Those that accept None
then return what holds if all steps are on one device.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from jaxrnn.ops import spread_like, where


def num_parts(axis_name: str | None) -> int:
    """Returns the number of devices along the axis.

    Raises:
      ValueError: No enclosing `jax.shard_map` has this axis.
    """
    if axis_name is None:
        return 1
    try:
        return jax.lax.axis_size(axis_name)
    except NameError:
        raise ValueError(
            f"axis_name of a loop must be an axis of the mesh of an enclosing jax.shard_map, but {axis_name!r} is "
            "not: call unroll inside jax.shard_map over a mesh with this axis"
        ) from None


def first_step(axis_name: str | None, time: int) -> Any:
    """Returns the index in the whole sequence of the first step of this device, which has `time` steps."""
    return 0 if axis_name is None else jax.lax.axis_index(axis_name) * time


def part_of(axis_name: str | None, x: Array, time: int) -> Array:
    """Returns the `time` entries of this device, given those of all steps."""
    return x if axis_name is None else jax.lax.dynamic_slice_in_dim(x, first_step(axis_name, time), time)


def first_of_next_part(axis_name: str | None, x: Array) -> Array:
    """Returns the first entry [1, ...] of the next device; zeros on the last one."""
    if axis_name is None:
        return jnp.zeros_like(x[:1])
    return jax.lax.ppermute(x[:1], axis_name, [(n + 1, n) for n in range(num_parts(axis_name) - 1)])


def state_before_part(axis_name: str, reverse: bool, apply: Callable[[Any, Any], Any], summary: Any, state: Any) -> Any:
    """Returns the state before the first step that this device reads.

    Args:
      axis_name: The mesh axis.
      reverse: Whether the last device is the first one that reads.
      apply: A function `apply(summary, state)` that returns the state after the steps of a device.
      summary: What `apply` must know of the steps of this device: a pytree of arrays of the same shapes on all devices.
      state: The state before the first step of the whole sequence.
    """

    def through_part(state: Any, summary: Any) -> tuple[Any, Any]:
        return apply(summary, state), state

    summaries = jax.lax.all_gather(spread_like(state, summary), axis_name)
    _, states = jax.lax.scan(through_part, state, summaries, reverse=reverse)
    return jax.tree.map(lambda s: s[jax.lax.axis_index(axis_name)], states)


def left_before_part(axis_name: str, reverse: bool, has_steps: Array, last: Any, first: Any) -> Any:
    """Returns what the last step of the devices before this one has left.

    Args:
      axis_name: The mesh axis.
      reverse: Whether the last device is the first one that reads.
      has_steps: Whether there are any steps on this device, without padding: booleans [*batch], or one boolean.
      last: What the last step of this device leaves, a pytree of arrays [*batch, ...].
      first: The same before the first step of the whole sequence.
    """

    def left(summary: Any, before: Any) -> Any:
        has_steps, last = summary
        return where(has_steps, last, before)

    return state_before_part(axis_name, reverse, left, (has_steps, last), first)


def from_last_part(axis_name: str, reverse: bool, tree: Any) -> Any:
    """Returns what the last device that reads has. The result is the same on all devices."""
    last = 0 if reverse else num_parts(axis_name) - 1
    is_last = jax.lax.axis_index(axis_name) == last
    return jax.tree.map(lambda x: jax.lax.psum(jnp.where(is_last, x, jnp.zeros_like(x)), axis_name), tree)
