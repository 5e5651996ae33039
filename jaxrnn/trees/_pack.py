"""Batches of trees as arrays."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import numpy as np


class Node(NamedTuple):
    """A node of a tree, and with its children a whole tree."""

    x: Any = None  # its input: a symbol or a vector of features; None: it has none
    children: Sequence[Node | None] = ()  # None: this place is empty
    label: Any = 0  # numbers that networks leave alone


class Trees(NamedTuple):
    """A batch of trees. Each node has a slot: first leaves, then rows of inner nodes, after their children's rows."""

    xs: Any  # [slots, batch, ...], the nodes' inputs
    labels: Any  # [slots, batch, ...]
    valid: Any  # bool [slots, batch], whether there is a node in the slot
    reads: Any  # bool [slots, batch], whether that node has an input
    children: Any  # int [rows, width, batch, arity], slots of the inner nodes' children; `slots` where there is none
    roots: Any  # int [batch], slots


def pack(forest: Sequence[Node], *, arity: int = 0, leaves: int = 0, rows: int = 0, width: int = 4) -> Trees:
    """Trees as NumPy arrays, made on the host. `width` inner nodes of each tree make a row and are computed at once.

    `arity`, `leaves` and `rows` ask for room for at least so many: batches of equal shapes share a compiled program.
    """
    if not forest or width < 1:
        raise ValueError(f"pack needs trees and a positive width, but it was given {len(forest)} and {width}")
    plans = [_plan(tree, width) for tree in forest]
    arity = max([arity, *(len(node.children) for plan in plans for node, *_ in plan[0])])
    leaves, rows = max([leaves, *(plan[2] for plan in plans)]), max([rows, *(plan[3] for plan in plans)])
    slots, batch = leaves + rows * width, len(forest)
    children, roots = np.full((rows * width, batch, arity), slots, np.int32), np.zeros(batch, np.int32)
    nodes: list[tuple[int, int, Node]] = []
    for b, (entries, places, _, _) in enumerate(plans):
        slot_of = [leaves + place if entry[0].children else place for entry, place in zip(entries, places, strict=True)]
        for (node, parent, rank), slot in zip(entries, slot_of, strict=True):
            nodes.append((slot, b, node))
            if parent >= 0:
                children[slot_of[parent] - leaves, b, rank] = slot
        roots[b] = slot_of[0]

    def fill(entries: list[tuple[int, int, Any]]) -> np.ndarray:
        at, of_batch, values = (np.asarray(column) for column in zip(*entries or [(0, 0, 0)], strict=True))
        array = np.zeros((slots, batch, *values.shape[1:]), values.dtype)
        array[at, of_batch] = values
        return array

    return Trees(
        xs=fill([(slot, b, node.x) for slot, b, node in nodes if node.x is not None]),
        labels=fill([(slot, b, node.label) for slot, b, node in nodes]),
        valid=fill([(slot, b, True) for slot, b, _ in nodes]),
        reads=fill([(slot, b, node.x is not None) for slot, b, node in nodes]),
        children=children.reshape(rows, width, batch, arity),
        roots=roots,
    )


def _plan(tree: Node, width: int) -> tuple[list[tuple[Node, int, int]], list[int], int, int]:
    """Nodes with parent and rank among siblings; their places among leaves or in rows; how many there are of these."""
    entries: list[tuple[Node, int, int]] = [(tree, -1, 0)]
    for n, (node, _, _) in enumerate(entries):  # which grow meanwhile: trees may be deeper than Python's stack
        entries += [(child, n, rank) for rank, child in enumerate(node.children) if child is not None]
    places, leaves, filled, after = [0] * len(entries), 0, Counter(), Counter()
    for n in reversed(range(len(entries))):  # the deepest first: no order needs fewer rows (T. C. Hu, 1961)
        node, parent, _ = entries[n]
        if not node.children:
            places[n], leaves = leaves, leaves + 1
            continue
        row = after[n]  # the first one after those of its children
        while filled[row] == width:
            row += 1
        places[n], filled[row] = row * width + filled[row], filled[row] + 1
        after[parent] = max(after[parent], row + 1)
    return entries, places, leaves, len(filled)


def take(trees: Trees, which: Any) -> Trees:
    """A batch of the trees of these indices; also inside `jit`."""
    xs, labels, valid, reads = (leaf[:, which] for leaf in trees[:4])
    return Trees(xs, labels, valid, reads, trees.children[:, :, which], trees.roots[which])


def at_roots(trees: Trees, values: Any) -> Any:
    """Of values [slots, batch, ...], such as states, those of the roots [batch, ...]."""
    return jax.tree.map(lambda leaf: leaf[trees.roots, np.arange(len(trees.roots))], values)
