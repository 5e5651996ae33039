"""Batches of trees as arrays."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxrnn import _check as check


class Node(NamedTuple):
    """A node of a tree. A tree is given by its root.

    Example:
      >>> from jaxrnn.trees import Node
      >>> tree = Node(children=[Node(7), Node(children=[Node(2), Node(5)])], label=1)
      >>> tree.children[0].x
      7

    Args:
      x: The input of the node: a symbol or a vector of features. None means that it has no input.
      children: The child nodes. None is a position without a child.
      label: A number, or an array of numbers, such as the class of the node. Networks do not read it.
    """

    x: Any = None
    children: Sequence[Node | None] = ()
    label: Any = 0


class Trees(NamedTuple):
    """A batch of trees as arrays, from `jaxrnn.trees.pack`.

    Every node has a slot. The first slots of each tree are its leaves. They are followed by rows of inner nodes, in
    which every node is in a later row than its children, so that all nodes of a row can be computed at once.

    Example:
      >>> from jaxrnn.trees import Node, pack
      >>> batch = pack([Node(children=[Node(7), Node(2)]), Node(5)], width=1)
      >>> batch.xs.tolist()  # [slots, batch]
      [[2, 5], [7, 0], [0, 0]]
      >>> batch.valid.tolist()
      [[True, True], [True, False], [True, False]]
      >>> batch.roots.tolist()
      [2, 0]

    Args:
      xs: Inputs [slots, batch, ...] of the nodes.
      labels: Labels [slots, batch, ...] of the nodes.
      valid: Booleans [slots, batch], False in slots without a node.
      reads: Booleans [slots, batch], True where a node has an input.
      children: Integers [rows, width, batch, arity], the slots of the children of inner nodes. Where there is no child,
        the entry is the number of slots.
      roots: Integers [batch], the slots of the roots.
    """

    xs: Any
    labels: Any
    valid: Any
    reads: Any
    children: Any
    roots: Any


def pack(forest: Sequence[Node], *, arity: int = 0, leaves: int = 0, rows: int = 0, width: int = 4) -> Trees:
    """Packs trees into NumPy arrays, on the host.

    `arity`, `leaves` and `rows` are lower bounds. With the same bounds, batches of different trees have the same shapes
    and share a compiled program.

    Example:
      >>> from jaxrnn.trees import Node, pack
      >>> batch = pack([Node(children=[Node(7), Node(2)])], leaves=4, rows=1, width=2)
      >>> batch.xs.shape, batch.children.shape
      ((6, 1), (1, 2, 1, 2))

    Args:
      forest: The roots of the trees, at least one.
      arity: Minimum number of children to reserve space for. A cell with an `arity` needs trees of the same arity.
      leaves: Minimum number of leaves to reserve space for.
      rows: Minimum number of rows of inner nodes to reserve space for.
      width: Number of inner nodes of a tree in one row, which are computed at once.

    Returns:
      A batch of trees.

    Raises:
      TypeError: An argument has the wrong type.
      ValueError: The forest is empty, a number is out of range, or the inputs or labels of the nodes differ in shape.
    """
    if isinstance(forest, Node) or not isinstance(forest, Sequence):
        hint = ": did you mean [tree]?" if isinstance(forest, Node) else ""
        raise TypeError(f"forest must be a list of trees, but it is {forest!r}{hint}")
    if not forest:
        raise ValueError("forest must have at least one tree, but it is empty")
    for name, value in {"arity": arity, "leaves": leaves, "rows": rows}.items():
        _check_at_least(name, value, 0)
    _check_at_least("width", width, 1)

    layouts = [_lay_out(tree, width) for tree in forest]
    arity = max(arity, *(len(entry.node.children) for layout in layouts for entry in layout.entries))
    leaves = max(leaves, *(layout.num_leaves for layout in layouts))
    rows = max(rows, *(layout.num_rows for layout in layouts))
    batch = len(forest)
    slots = leaves + rows * width

    children = np.full((rows * width, batch, arity), slots, np.int32)
    roots = np.zeros(batch, np.int32)
    nodes: list[tuple[int, int, Node]] = []  # slot, index of the tree, node
    for b, (entries, places, _, _) in enumerate(layouts):
        slot_of = [
            leaves + place if entry.node.children else place for entry, place in zip(entries, places, strict=True)
        ]
        for entry, slot in zip(entries, slot_of, strict=True):
            nodes.append((slot, b, entry.node))
            if entry.parent is not None:
                children[slot_of[entry.parent] - leaves, b, entry.position] = slot
        roots[b] = slot_of[0]

    def to_array(what: str, values: list[tuple[int, int, Any]]) -> np.ndarray:
        """Returns an array [slots, batch, ...] with values at given slots and trees, and zeros elsewhere."""
        at_slots, at_trees, column = zip(*values or [(0, 0, 0)], strict=True)
        try:
            column = np.asarray(column)
        except ValueError as error:
            raise ValueError(f"the {what} of all nodes must have the same shape, but they do not") from error
        array = np.zeros((slots, batch, *column.shape[1:]), column.dtype)
        array[list(at_slots), list(at_trees)] = column
        return array

    return Trees(
        xs=to_array("inputs", [(slot, b, node.x) for slot, b, node in nodes if node.x is not None]),
        labels=to_array("labels", [(slot, b, node.label) for slot, b, node in nodes]),
        valid=to_array("flags", [(slot, b, True) for slot, b, _ in nodes]),
        reads=to_array("flags", [(slot, b, node.x is not None) for slot, b, node in nodes]),
        children=children.reshape(rows, width, batch, arity),
        roots=roots,
    )


def take(trees: Trees, which: Any) -> Trees:
    """Selects trees of a batch. It also works inside `jax.jit`.

    Example:
      >>> from jaxrnn.trees import Node, pack, take
      >>> batch = pack([Node(3), Node(4), Node(5)])
      >>> take(batch, jnp.array([2, 0])).xs.tolist()
      [[5, 3]]

    Args:
      trees: A batch of trees, from `pack`.
      which: Indices of the trees.

    Returns:
      A batch of these trees.

    Raises:
      TypeError: `trees` is not a batch of trees.
    """
    check_trees(trees)
    return Trees(
        xs=trees.xs[:, which],
        labels=trees.labels[:, which],
        valid=trees.valid[:, which],
        reads=trees.reads[:, which],
        children=trees.children[:, :, which],
        roots=trees.roots[which],
    )


def at_roots(trees: Trees, values: Any) -> Any:
    """Selects the values at the roots, such as their states.

    Example:
      >>> from jaxrnn.trees import Node, at_roots, pack
      >>> batch = pack([Node(children=[Node(7), Node(2)], label=1), Node(5, label=0)])
      >>> at_roots(batch, batch.labels).tolist()
      [1, 0]

    Args:
      trees: A batch of trees, from `pack`.
      values: A pytree of arrays [slots, batch, ...].

    Returns:
      A pytree of arrays [batch, ...].

    Raises:
      TypeError: `trees` is not a batch of trees.
    """
    check_trees(trees)
    return jax.tree.map(lambda leaf: leaf[trees.roots, np.arange(len(trees.roots))], values)


def check_trees(trees: Any) -> None:
    """Checks that a function was given a batch of trees."""
    if not isinstance(trees, Trees):
        raise TypeError(f"trees must be a batch of trees from jaxrnn.trees.pack, but it is {trees!r}")


def _check_at_least(name: str, value: Any, least: int) -> None:
    """Checks that an argument of `pack` is an integer of at least `least`."""
    message = f"{name} must be {'a positive' if least else 'a non-negative'} integer, but it is {value!r}"
    if not check.is_integer(value):
        raise TypeError(message)
    if value < least:
        raise ValueError(message)


class _Entry(NamedTuple):
    """A node in the list of all nodes of a tree."""

    node: Node
    parent: int | None  # index of the parent's entry; None for the root
    position: int  # among its siblings


class _Layout(NamedTuple):
    """Where the nodes of one tree are placed."""

    entries: list[_Entry]  # parents before their children, so that the root is the first
    places: list[int]  # for each entry: its index among the leaves, or row * width + column of an inner node
    num_leaves: int
    num_rows: int


def _lay_out(tree: Node, width: int) -> _Layout:
    """Lists the nodes of a tree and places the inner ones in as few rows of `width` nodes as possible."""
    entries = [_Entry(tree, None, 0)]
    for n, (node, _, _) in enumerate(entries):  # the list grows meanwhile: a tree may be deeper than Python's stack
        if not isinstance(node, Node):
            raise TypeError(f"every tree must be a Node, and every child a Node or None, but one is {node!r}")
        entries += [_Entry(child, n, position) for position, child in enumerate(node.children) if child is not None]

    places = [0] * len(entries)
    num_leaves = 0
    nodes_in_row: Counter[int] = Counter()
    first_row: Counter[int | None] = Counter()  # for each entry, the first row after those of its children
    for n in reversed(range(len(entries))):  # the deepest nodes first: no order needs fewer rows (T. C. Hu, 1961)
        node, parent, _ = entries[n]
        if not node.children:
            places[n] = num_leaves
            num_leaves += 1
            continue
        row = first_row[n]
        while nodes_in_row[row] == width:
            row += 1
        places[n] = row * width + nodes_in_row[row]
        nodes_in_row[row] += 1
        first_row[parent] = max(first_row[parent], row + 1)
    return _Layout(entries, places, num_leaves, len(nodes_in_row))
