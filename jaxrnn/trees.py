"""Recursive networks over batches of trees: `pack` makes arrays of nested nodes, `unroll` runs a cell in one scan."""

from __future__ import annotations

import abc
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxrnn.initializers import Chrono, gate_biases, gates, glorot_uniform, orthogonal, uniform
from jaxrnn.layer import Layer, Params, State
from jaxrnn.ops import affine, is_symbols, sigmoid, spread_like, tanh, where


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


class TreeState(NamedTuple):
    h: Array  # [*batch, hidden]


@dataclass(frozen=True)
class TreeCell(abc.ABC):
    """A network's node: pure functions that treat every leading axis as a batch."""

    hidden_size: int
    arity: ClassVar[int | None] = None  # places of children that have weights of their own; None: children are a set
    __post_init__ = Layer.__post_init__

    @abc.abstractmethod
    def init(self, key: Array, input_size: int) -> Params:
        """Draws parameters, `w_x` among them; of symbols, `input_size` is how many there are."""

    def leaf(self, params: Params, z: Array) -> State:
        """A leaf's state; `z` is its `x @ w_x`, zero where there is no input."""
        return TreeState(h=z)

    @abc.abstractmethod
    def step(self, params: Params, children: State, z: Array) -> State:
        """An inner node's state, from its children's [*batch, arity, hidden]: zeros where there is none."""


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


class TreeParams(NamedTuple):
    w_x: Array  # [input, 4 * hidden], gates in the order i, o, u, f; nets without gates [input, hidden]
    w_h: Array  # child-sum [hidden, 4 * hidden]; N-ary [N * hidden, (3 + N) * hidden]; nets [2 * hidden, hidden]
    b: Array  # [4 * hidden]; nets [hidden]


class TreeLSTMState(NamedTuple):
    h: Array  # [*batch, hidden]
    c: Array  # [*batch, hidden]


@dataclass(frozen=True)
class _TreeLSTM(TreeCell):
    """What both Tree-LSTMs share."""

    forget_bias: float | Chrono = 1.0

    def init(self, key: Array, input_size: int) -> TreeParams:
        n, children, (k_x, k_h, k_b) = self.hidden_size, self.arity or 1, jax.random.split(key, 3)
        w_h = [gates(orthogonal, k, (n, n), 3 + children) for k in jax.random.split(k_h, children)]
        b_f, b_i = gate_biases(k_b, self.forget_bias, n)
        b = jnp.concatenate([b_i, jnp.zeros(2 * n), b_f])
        return TreeParams(gates(glorot_uniform, k_x, (input_size, n), 4), jnp.concatenate(w_h), b)

    def leaf(self, params: TreeParams, z: Array) -> TreeLSTMState:
        return self.state((z + params.b)[..., : 3 * self.hidden_size], 0.0)

    def state(self, iou: Array, kept: Array | float) -> TreeLSTMState:
        i, o, u = jnp.split(iou, 3, axis=-1)
        c = sigmoid(i) * tanh(u) + kept
        return TreeLSTMState(h=sigmoid(o) * tanh(c), c=c)


@dataclass(frozen=True)
class ChildSumTreeLSTM(_TreeLSTM):
    r"""Child-sum Tree-LSTM: any number of children, in no order.

    .. math::
        \tilde{h}_j &= \sum_{k \in C(j)} h_k \\
        i_j, o_j &= \sigma(W_{i,o} x_j + U_{i,o} \tilde{h}_j + b_{i,o}) \\
        u_j &= \tanh(W_u x_j + U_u \tilde{h}_j + b_u) \\
        f_{jk} &= \sigma(W_f x_j + U_f h_k + b_f) \\
        c_j &= i_j \odot u_j + \sum_{k \in C(j)} f_{jk} \odot c_k \\
        h_j &= o_j \odot \tanh(c_j)

    Args:
      hidden_size: size of :math:`h` and :math:`c`.
      forget_bias: initial value of :math:`b_f`, a number or `Chrono(depth)`, which sets :math:`b_i` too.

    References: K. S. Tai, R. Socher, C. Manning, "Improved semantic representations from tree-structured long
    short-term memory networks", 2015. Deviations: the paper gives no initial values, ours are those of `LSTM`; a node
    without an input has :math:`W x_j = 0`.
    """

    def step(self, params: TreeParams, children: TreeLSTMState, z: Array) -> TreeLSTMState:
        of_sum, of_each = jnp.split(params.w_h, [3 * self.hidden_size], axis=-1)
        x_iou, x_f = jnp.split(z + params.b, [3 * self.hidden_size], axis=-1)
        f = sigmoid(x_f[..., None, :] + children.h @ of_each)
        return self.state(x_iou + children.h.sum(-2) @ of_sum, (f * children.c).sum(-2))


@dataclass(frozen=True)
class NaryTreeLSTM(_TreeLSTM):
    r"""N-ary Tree-LSTM: at most N children, told apart by their places.

    .. math::
        i_j, o_j &= \sigma(W_{i,o} x_j + \sum_{l=1}^N U_{i,o}^l h_{jl} + b_{i,o}) \\
        u_j &= \tanh(W_u x_j + \sum_{l=1}^N U_u^l h_{jl} + b_u) \\
        f_{jk} &= \sigma(W_f x_j + \sum_{l=1}^N U_f^{kl} h_{jl} + b_f) \\
        c_j &= i_j \odot u_j + \sum_{l=1}^N f_{jl} \odot c_{jl}, \quad h_j = o_j \odot \tanh(c_j)

    A child that is missing has :math:`h_{jl} = c_{jl} = 0`; `arity` is N. All else is as of `ChildSumTreeLSTM`.
    """

    arity: int = 2  # type: ignore[misc]

    def step(self, params: TreeParams, children: TreeLSTMState, z: Array) -> TreeLSTMState:
        x_iou, x_f = jnp.split(z + params.b, [3 * self.hidden_size], axis=-1)
        h_iou, h_f = jnp.split(children.h.reshape(*z.shape[:-1], -1) @ params.w_h, [3 * self.hidden_size], axis=-1)
        f = sigmoid(x_f[..., None, :] + h_f.reshape(children.h.shape))
        return self.state(x_iou + h_iou, (f * children.c).sum(-2))


@dataclass(frozen=True)
class RecursiveNet(TreeCell):
    r"""The recursive network over binary trees.

    .. math::
        h_j &= W_x x_j & \text{of a leaf} \\
        h_j &= \tanh(W [h_{left}; h_{right}] + b + W_x x_j) & \text{of an inner node}

    References: R. Socher, C. Lin, A. Ng, C. Manning, "Parsing natural scenes and natural language with recursive neural
    networks", 2011. Deviation: an inner node may have an input; in the paper none has, and :math:`x_j = 0`.
    """

    arity = 2

    def init(self, key: Array, input_size: int) -> TreeParams:
        n, (k_x, k_h) = self.hidden_size, jax.random.split(key)
        return TreeParams(glorot_uniform(k_x, (input_size, n)), glorot_uniform(k_h, (2 * n, n)), jnp.zeros(n))

    def step(self, params: TreeParams, children: TreeState, z: Array) -> TreeState:
        return TreeState(h=tanh(affine(children.h.reshape(*z.shape[:-1], -1), params.w_h, params.b) + z))


class RNTNParams(NamedTuple):
    w_x: Array  # [input, hidden]
    w_h: Array  # [2 * hidden, hidden]
    b: Array  # [hidden]
    v: Array  # [2 * hidden, 2 * hidden, hidden]


@dataclass(frozen=True)
class RNTN(TreeCell):
    r"""Recursive neural tensor network: `RecursiveNet`, and products of the children's features.

    .. math::
        h_j = \tanh(p^\top V^{[1:n]} p + W p + b + W_x x_j), \quad p = [h_{left}; h_{right}]

    References: R. Socher et al., "Recursive deep models for semantic compositionality over a sentiment treebank", 2013.
    Deviations: that of `RecursiveNet`; there is a bias, which the paper leaves out to be simple.
    """

    arity = 2

    def init(self, key: Array, input_size: int) -> RNTNParams:
        n, (k_net, k_v) = self.hidden_size, jax.random.split(key)
        return RNTNParams(*RecursiveNet(n).init(k_net, input_size), v=uniform(1 / (4 * n))(k_v, (2 * n, 2 * n, n)))

    def step(self, params: RNTNParams, children: TreeState, z: Array) -> TreeState:
        p = children.h.reshape(*z.shape[:-1], -1)
        products = jnp.einsum("...a,...b,abn->...n", p, p, params.v)
        return TreeState(h=tanh(products + affine(p, params.w_h, params.b) + z))
