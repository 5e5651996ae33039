"""Runs a cell over a batch of trees."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from jaxrnn.layer import Params, State
from jaxrnn.ops import affine, is_symbols, spread_like, where
from jaxrnn.trees._cell import TreeCell
from jaxrnn.trees._pack import Trees


def unroll(cell: TreeCell, params: Params, trees: Trees, xs: Any = None) -> State:
    """Runs a cell over trees and returns the states of all nodes [slots, batch, hidden], zeros where no node is.

    Args:
      cell, params: a cell of this module, or another `TreeCell`, and what its `init` drew.
      trees: a batch, from `pack`.
      xs: inputs in place of `trees.xs`: features [slots, batch, input] or symbols [slots, batch]. What stands where no
        node is, or one without an input, reaches neither values nor gradients, NaN included.
    """
    if not isinstance(cell, TreeCell):
        raise TypeError(f"the cell must be one over trees, such as NaryTreeLSTM(64), but it is {cell!r}")
    xs = jnp.asarray(trees.xs if xs is None else xs)
    rows, width, batch, arity = trees.children.shape
    leaves = len(trees.valid) - rows * width
    if cell.arity not in (None, arity):
        raise ValueError(f"{cell} needs trees packed with arity={cell.arity}, but theirs is {arity}")
    if (xs.shape if is_symbols(xs) else xs.shape[:-1]) != trees.valid.shape:
        raise ValueError(f"xs must begin with [slots, batch] = {trees.valid.shape}, but their shape is {xs.shape}")
    params, trees, xs = spread_like((params, trees, xs), (params, trees, xs))
    z = affine(where(trees.reads, xs, jnp.zeros((), xs.dtype)), params.w_x)
    z = where(trees.reads, z, jnp.zeros((), z.dtype))  # for a zero is a symbol too

    def compute(states: State, row: tuple[Array, Array, Array]) -> tuple[State, None]:
        start, children, z = row  # [], [width, batch, arity], [width, batch, ...]
        at = (children, jnp.arange(batch)[:, None])
        new = cell.step(params, jax.tree.map(lambda leaf: leaf.at[at].get(mode="fill", fill_value=0), states), z)
        return jax.tree.map(lambda leaf, n: jax.lax.dynamic_update_slice_in_dim(leaf, n, start, 0), states, new), None

    room = ((0, rows * width), (0, 0), (0, 0))
    states = jax.tree.map(lambda leaf: jnp.pad(leaf, room), cell.leaf(params, z[:leaves]))
    each_row = (leaves + width * jnp.arange(rows), trees.children, z[leaves:].reshape(rows, width, *z.shape[1:]))
    states, _ = jax.lax.scan(compute, states, each_row) if rows else (states, None)
    return where(trees.valid, states, jax.tree.map(lambda leaf: jnp.zeros((), leaf.dtype), states))
