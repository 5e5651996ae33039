"""The compiled programs of `Stream`.

The arrays of a stream's state have a first axis of slots. The programs update it in place: they donate the buffers of
the state that they are given.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxrnn._unroll import unroll
from jaxrnn.layer import Layer, Params, State
from jaxrnn.loops import Scan
from jaxrnn.ops import where

# The layer is a static argument, so streams of equal layers share the compiled programs. The loop is `Scan`, because
# without gradients it is as fast as any other and compiles the fastest.


@partial(jax.jit, static_argnames=("layer", "dtype"), donate_argnames="state")
def step_slots(
    layer: Layer, dtype: Any, params: Params, state: State, xs: Any, fed: Array, fresh: Array
) -> tuple[State, Any]:
    """Runs one step of the slots that are fed, from the initial state where a slot is fresh."""
    state = where(fed & fresh, layer.initial_state(params, fed.shape, dtype), state)
    xs = jax.tree.map(lambda x: jnp.asarray(x)[None], xs)
    state, ys = unroll(layer, params, xs, state, lengths=fed.astype(np.int32), loop=Scan())
    return state, jax.tree.map(lambda y: y[0], ys)


@partial(jax.jit, static_argnames=("layer", "dtype", "only_last"), donate_argnames="state")
def feed_slots(
    layer: Layer,
    dtype: Any,
    only_last: bool,
    params: Params,
    state: State,
    slots: Array,
    fresh: Array,
    xs: Any,
    lengths: Array,
) -> tuple[State, Any]:
    """Runs several steps of some slots; with `only_last`, returns only each slot's output at its last step.

    Entries of `slots` that are out of range are padding: their states are not written back.
    """
    rows = jax.tree.map(lambda s: s.at[slots].get(mode="clip"), state)
    rows = where(fresh, layer.initial_state(params, slots.shape, dtype), rows)
    rows, ys = unroll(layer, params, xs, rows, lengths=lengths, loop=Scan())
    state = jax.tree.map(lambda s, row: s.at[slots].set(row, mode="drop"), state, rows)
    if only_last:
        ys = jax.tree.map(lambda y: y[lengths - 1, jnp.arange(len(slots))], ys)
    return state, ys


@partial(jax.jit, donate_argnames="state")
def write_slot(state: State, slot: Array, row: State) -> State:
    """Returns the state with that of one slot replaced."""
    return jax.tree.map(lambda s, r: s.at[slot].set(r), state, row)


@partial(jax.jit, static_argnames=("layer", "dtype"))
def read_slot(layer: Layer, dtype: Any, params: Params, state: State, slot: Array, fresh: Array) -> State:
    """Returns the state of one slot, which is the initial state if the slot is fresh."""
    return where(fresh, layer.initial_state(params, (), dtype), jax.tree.map(lambda s: s[slot], state))
