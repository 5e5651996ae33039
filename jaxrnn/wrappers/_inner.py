"""What a cell that runs another inside its own step must know of it."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from jaxrnn.layer import Cell, Params, State, StepKey


def hidden(state: State) -> Any:
    """The array that is fed back to a cell: its state's field `h` or else its first one, down to an array."""
    while isinstance(state, tuple) and state:
        state = getattr(state, "h", state[0])
    return state


def with_hidden(state: State, h: Array) -> State:
    """The state with another `hidden`."""
    if not isinstance(state, tuple):
        return h
    fields = getattr(state, "_fields", ())
    place = fields.index("h") if "h" in fields else 0
    parts = [with_hidden(part, h) if n == place else part for n, part in enumerate(state)]
    return type(state)(*parts) if fields else tuple(parts)


def hidden_size(owner: Cell, cell: Cell, params: Params) -> int:
    """The size of a cell's `hidden`, which must be one vector of real numbers a sequence."""
    state = jax.eval_shape(cell.initial_state, params)
    h = hidden(state)
    if getattr(h, "ndim", None) != 1 or not jnp.issubdtype(h.dtype, jnp.floating):
        raise TypeError(
            f"{type(owner).__name__} changes the state's field h, or else its first, so that this must be of real "
            f"numbers [*batch, hidden], but the state of {cell} is {state}"
        )
    return h.shape[0]


def with_one_key(z: Any) -> Any:
    """What steps need of their inputs, for its shapes, with the keys of one step: they have no batch axes."""

    def one(leaf: Any) -> Any:
        if not isinstance(leaf, StepKey):
            return leaf
        axes = 0 if jnp.issubdtype(leaf.step.dtype, jax.dtypes.prng_key) else 1  # of a raw key
        shapes: Any = (jax.ShapeDtypeStruct(key.shape[key.ndim - axes :], key.dtype) for key in leaf)
        return StepKey(*shapes)

    return jax.tree.map(one, z, is_leaf=lambda leaf: isinstance(leaf, StepKey))


def output(owner: Cell, cell: Cell, params: Params, state: State, z: Any) -> Any:
    """The output of a cell whose input is not known any more: `z` is given for its shapes and dtypes."""
    jaxpr = jax.make_jaxpr(cell.readout)(params, state, z).jaxpr
    read = [*jaxpr.outvars, *(atom for eqn in jaxpr.eqns for atom in eqn.invars)]
    inputs = jaxpr.invars[len(jax.tree.leaves((params, state))) :]
    if any(variable is atom for variable in inputs for atom in read):
        raise TypeError(
            f"{type(owner).__name__} makes the input of {cell} inside its step, so that the cell's output must be made "
            "of its state alone, but it is made of its input too: wrap another cell"
        )
    return cell.readout(params, state, jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), z))
