"""The hidden state of any cell: the array in its state that wrappers change before the cell reads it."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from jaxrnn.layer import Cell, Params, State


def get_hidden(state: State) -> Any:
    """Returns the hidden state: field `h` of the state or, if there is none, its first field.

    If that is again a tuple, such as the state of a cell inside a wrapper, its own hidden state is returned.
    """
    while isinstance(state, tuple) and state:
        state = getattr(state, "h", state[0])
    return state


def replace_hidden(state: State, h: Array) -> State:
    """Returns a state with `h` in place of the array that `get_hidden` returns."""
    if not isinstance(state, tuple):
        return h
    fields = getattr(state, "_fields", ())
    place = fields.index("h") if "h" in fields else 0
    entries = [replace_hidden(entry, h) if n == place else entry for n, entry in enumerate(state)]
    return type(state)(*entries) if fields else tuple(entries)


def check_hidden_size(owner: Cell, cell: Cell, params: Params) -> int:
    """Checks that the hidden state of a wrapped cell is a vector of real numbers, and returns its size."""
    state = jax.eval_shape(cell.initial_state, params)
    h = get_hidden(state)
    if getattr(h, "ndim", None) != 1 or not jnp.issubdtype(h.dtype, jnp.floating):
        raise TypeError(
            f"{type(owner).__name__} changes the field h of the wrapped cell's state, or its first field if it has no "
            f"h, which must hold real numbers [*batch, hidden], but the state of {cell} is {state}: wrap another cell"
        )
    return h.shape[0]
