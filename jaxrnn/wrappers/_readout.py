"""The output of a wrapped cell whose input is computed inside the step and is no longer known afterwards."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from jaxrnn.layer import Cell, Params, State


def readout_from_state(owner: Cell, cell: Cell, params: Params, state: State, z: Any) -> Any:
    """Returns the output of a cell, which must depend on its state alone.

    Args:
      owner: The wrapper, which is named in the error.
      cell: The wrapped cell.
      params: Parameters of the wrapped cell.
      state: State of the wrapped cell after the step.
      z: Shapes and dtypes of the cell's projected input.

    Raises:
      TypeError: The output depends on the input.
    """
    jaxpr = jax.make_jaxpr(cell.readout)(params, state, z).jaxpr
    num_others = len(jax.tree.leaves((params, state)))
    inputs = jaxpr.invars[num_others:]
    read = [*jaxpr.outvars, *(atom for eqn in jaxpr.eqns for atom in eqn.invars)]
    if any(variable is atom for variable in inputs for atom in read):
        raise TypeError(
            f"{type(owner).__name__} computes the input of {cell} inside its step, so the output of this cell must "
            "depend on its state alone, but it also depends on its input: wrap another cell"
        )
    return cell.readout(params, state, jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), z))


def without_key_axes(z: Any) -> Any:
    """Replaces the random keys in a projected input by the shapes and dtypes of one step's keys.

    After a call over many steps the keys have leading axes, which `project` does not accept. The result is for tracing.
    """

    def replace(leaf: Any) -> Any:
        return jax.ShapeDtypeStruct((), leaf.dtype) if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key) else leaf

    return jax.tree.map(replace, z)
