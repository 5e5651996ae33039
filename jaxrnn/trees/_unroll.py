"""Runs a cell over a batch of trees."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from jaxrnn import _check as check
from jaxrnn._diagnosis import as_arrays, check_kind
from jaxrnn.layer import Params, State
from jaxrnn.ops import affine, is_symbols, spread_like, where
from jaxrnn.trees._cell import TreeCell
from jaxrnn.trees._pack import Trees, check_trees


def unroll(cell: TreeCell, params: Params, trees: Trees, xs: Any = None) -> State:
    """Runs a cell over a batch of trees, from the leaves to the roots.

    Example:
      >>> from jaxrnn import trees
      >>> cell = trees.NaryTreeLSTM(hidden_size=64)
      >>> params = cell.init(jax.random.key(0), input_size=100)  # 100 different symbols
      >>> batch = trees.pack([trees.Node(children=[trees.Node(7), trees.Node(2)])])
      >>> state = trees.unroll(cell, params, batch)
      >>> state.h.shape  # [slots, batch, hidden]
      (6, 1, 64)
      >>> trees.at_roots(batch, state).h.shape
      (1, 64)

    Args:
      cell: A cell over trees, from `jaxrnn.trees`, or your own `TreeCell`.
      params: Its parameters, from `cell.init`.
      trees: A batch of trees, from `jaxrnn.trees.pack`.
      xs: None, or inputs in place of `trees.xs`: features [slots, batch, input] or symbols [slots, batch]. Values in
        slots without a node, or of a node without an input, even NaN, never affect outputs or gradients.

    Returns:
      The states of all nodes: a pytree of arrays [slots, batch, hidden], zero in slots without a node.

    Raises:
      TypeError: An argument has the wrong type.
      ValueError: The trees have the wrong arity, or the inputs the wrong shape.
    """
    if not isinstance(cell, TreeCell):
        hint = check.did_you_mean(cell)
        raise TypeError(f"cell must be a cell over trees, such as NaryTreeLSTM(64), but it is {cell!r}{hint}")
    check_trees(trees)
    rows, width, batch, arity = trees.children.shape
    if cell.arity not in (None, arity):
        raise ValueError(
            f"trees must have an arity of {cell.arity} for {cell}, but their arity is {arity}: "
            f"call pack with arity={cell.arity}"
        )
    xs = as_arrays("xs", trees.xs if xs is None else xs)
    check_kind("xs", xs)
    if (xs.shape if is_symbols(xs) else xs.shape[:-1]) != trees.valid.shape:
        raise ValueError(
            f"xs must have the axes [slots, batch] = {trees.valid.shape}, with features after them unless they are "
            f"symbols, but their shape is {xs.shape}"
        )
    params, trees, xs = spread_like((params, trees, xs), (params, trees, xs))
    leaves = len(trees.valid) - rows * width

    zs = affine(where(trees.reads, xs, jnp.zeros((), xs.dtype)), params.w_x)
    zs = where(trees.reads, zs, jnp.zeros((), zs.dtype))  # again, because the symbol 0 has a projection too

    def step_row(states: State, row: tuple[Array, Array, Array]) -> tuple[State, None]:
        """Computes the states of one row of inner nodes and writes them to their slots."""
        start, children, z = row  # [], [width, batch, arity], [width, batch, ...]
        slots = (children, jnp.arange(batch)[:, None])
        of_children = jax.tree.map(lambda leaf: leaf.at[slots].get(mode="fill", fill_value=0), states)
        new = cell.step(params, of_children, z)
        return jax.tree.map(lambda leaf, n: jax.lax.dynamic_update_slice_in_dim(leaf, n, start, 0), states, new), None

    no_states_yet = ((0, rows * width), (0, 0), (0, 0))  # padding for the inner nodes
    states = jax.tree.map(lambda leaf: jnp.pad(leaf, no_states_yet), cell.leaf(params, zs[:leaves]))
    if rows:
        starts = leaves + width * jnp.arange(rows)
        zs_of_rows = zs[leaves:].reshape(rows, width, *zs.shape[1:])
        states, _ = jax.lax.scan(step_row, states, (starts, trees.children, zs_of_rows))
    return where(trees.valid, states, jax.tree.map(lambda leaf: jnp.zeros((), leaf.dtype), states))
