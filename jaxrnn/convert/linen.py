"""Weights of Flax linen's recurrent cells: a tree of names, so that Flax itself is not needed."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import jax
from jax import Array

from jaxrnn.cells import GRU, LSTM, Elman, ElmanParams, GRUParams, LSTMParams, ResetAfterMGU, ResetAfterMGUParams
from jaxrnn.convert._common import array, checked, directions, join, pair, refusal, split
from jaxrnn.layer import Cell, Layer
from jaxrnn.layers import Bidirectional

Leaves = dict[str, Array]  # a cell's arrays under names such as "hi/kernel"
GATES = {Elman: ("",), LSTM: ("i", "f", "g", "o"), GRU: ("r", "z", "n"), ResetAfterMGU: ("f", "n")}  # in our order
PARAMS = {Elman: ElmanParams, LSTM: LSTMParams, GRU: GRUParams, ResetAfterMGU: ResetAfterMGUParams}


def from_linen(params: Any) -> tuple[Layer, Any]:
    """The layer and the parameters of a recurrent cell of Flax linen.

        layer, params = from_linen(variables["params"]["rnn"])
        state, ys = jaxrnn.unroll(layer, params, xs)  # time first

    The names tell the cell: `SimpleCell` is `Elman`, `LSTMCell` and `OptimizedLSTMCell` are `LSTM`, `GRUCell` is
    `GRU`, `MGUCell` is `ResetAfterMGU`. They do not tell Flax' options: an activation must be put into the layer,
    `Elman(n, jax.nn.relu)`; for `residual=True` add the identity to `w_h`; `merge_fn` is `Bidirectional`'s merge.

    Args:
      params: the parameter tree of a cell, of an `nn.RNN` of one or of an `nn.Bidirectional` of two, or variables
        that hold nothing else.

    Returns:
      `(layer, params)`, the parameters of the dtype they have.

    Raises:
      TypeError: `params` is no tree of names, or of a cell that has no counterpart.
      ValueError: it is not the tree of one cell, or its shapes do not fit together.
    """
    return read(params, from_gates)


def to_linen(layer: Layer, params: Any) -> dict[str, Any]:
    """The parameter tree of Flax linen's cell for a layer.

        variables = {"params": {"cell": to_linen(layer, params)}}
        ys = nn.RNN(nn.LSTMCell(features=64)).apply(variables, xs)  # batch first

    Flax' `SimpleCell` needs an `Elman`'s activation as its `activation_fn`.

    Args:
      layer: `Elman`, `LSTM` (for `LSTMCell` and `OptimizedLSTMCell`), `GRU`, `ResetAfterMGU`, or a `Bidirectional`
        of two of them, for an `nn.Bidirectional` of two `nn.RNN`.
      params: its parameters.

    Raises:
      TypeError: Flax has no counterpart of the layer.
      ValueError: the parameters are not the layer's.
    """
    return write(layer, params, to_gates, "Flax linen", GATES)


def read(tree: Any, cell: Callable[[Leaves], tuple[Cell, Any]]) -> tuple[Layer, Any]:
    """A layer from a tree of names: the cell, or the two of a bidirectional layer, below the names of what holds it."""
    if not isinstance(tree, Mapping):
        raise TypeError(
            f"weights must be a tree of names, as from init or nnx.state, but they are of type {type(tree).__name__}"
        )
    tree = {name: node for name, node in tree.items() if name != "rngs"}
    if {"forward_rnn", "backward_rnn"} == set(tree):
        return pair(read(tree["forward_rnn"], cell), read(tree["backward_rnn"], cell))
    if {"forward_rnn", "backward_rnn"} & set(tree):
        raise ValueError(
            f"a Bidirectional must hold forward_rnn and backward_rnn, but this one holds {[*tree]}: "
            "where both directions share one cell, give its tree twice"
        )
    if len(tree) == 1 and isinstance(node := next(iter(tree.values())), Mapping):
        return read(node, cell)  # below params, rnn, cell, LSTMCell_0
    return cell(dict(_leaves(tree)))


def _leaves(tree: Mapping[Any, Any], above: str = "") -> Iterator[tuple[str, Array]]:
    for name, node in tree.items():
        if isinstance(node, Mapping):
            yield from _leaves(node, f"{above}{name}/")
        else:
            yield from ((f"{above}{name}", array(leaf)) for leaf in jax.tree.leaves(node))  # one, in a box or not


def write(
    layer: Layer, params: Any, cell: Callable[[Any, Any], dict[str, Any]], library: str, known: Iterable[type]
) -> dict[str, Any]:
    """The tree of a layer, of which `cell` writes that of each cell."""
    if type(layer) is Bidirectional:
        trees = [write(part, p, cell, library, known) for part, p in directions(layer, params)]
        return {name: {"cell": tree} for name, tree in zip(("forward_rnn", "backward_rnn"), trees, strict=True)}
    if not isinstance(layer, Cell) or type(layer) not in known:
        raise refusal(layer, library, [*known, Bidirectional])
    return cell(layer, checked(layer, params))


def _names(kind: type) -> tuple[list[str], ...]:
    """Where the gates of each array of a cell's parameters stand."""
    gates, biased = GATES[kind], "h" if kind is LSTM else "i"
    names = [f"i{gate}/kernel" for gate in gates], [f"h{gate}/kernel" for gate in gates]
    names = *names, [f"{biased}{gate}/bias" for gate in gates]
    return (*names, ["hn/bias"]) if "b_n" in PARAMS[kind]._fields else names


def to_gates(layer: Cell, params: Any) -> dict[str, Any]:
    """The tree of a cell with a dense layer for each gate."""
    tree: dict[str, Any] = {}
    for names, leaf in zip(_names(type(layer)), params, strict=True):
        for name, gate in zip(names, split(leaf, len(names)), strict=True):
            dense, part = name.split("/")
            tree.setdefault(dense, {})[part] = gate
    return tree


def from_gates(leaves: Leaves) -> tuple[Cell, Any]:
    """The cell with a dense layer for each gate that has these leaves."""
    for kind in GATES:
        names = _names(kind)
        if set(leaves) == {name for group in names for name in group}:
            params = PARAMS[kind](*(join(*(leaves[name] for name in group)) for group in names))
            cell = kind(hidden_size=params.w_h.shape[0])
            return cell, checked(cell, params)
    if set(leaves) == {"if/kernel", "if/bias", "in/kernel", "in/bias", "hf/kernel", "hn/kernel"}:
        raise TypeError("MGUCell(reset_gate=False) has no counterpart: ResetAfterMGU resets, and has a bias for that")
    raise unknown(leaves)


def unknown(leaves: Leaves) -> ValueError:
    shapes = {name: leaf.shape for name, leaf in [*leaves.items()][:12]}
    return ValueError(
        "weights must be those of one SimpleCell, LSTMCell, OptimizedLSTMCell, GRUCell or MGUCell, or of the two of "
        f"a Bidirectional, but they are {shapes}: give the tree of one layer"
    )
