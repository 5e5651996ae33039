"""Trees of names and arrays of Flax's recurrent cells, which linen and nnx share."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import jax
from jax import Array

from jaxrnn.cells import GRU, LSTM, Elman, ElmanParams, GRUParams, LSTMParams, ResetAfterMGU, ResetAfterMGUParams
from jaxrnn.convert._checks import cannot_convert, check_params
from jaxrnn.convert._directions import join_directions, split_directions
from jaxrnn.convert._gates import as_array, join_gates, split_gates
from jaxrnn.layer import Cell, Layer
from jaxrnn.layers import Bidirectional

Leaves = dict[str, Array]  # the arrays of a cell by their names, such as "hi/kernel"

GATES = {Elman: ("",), LSTM: ("i", "f", "g", "o"), GRU: ("r", "z", "n"), ResetAfterMGU: ("f", "n")}  # jaxrnn's order
PARAMS = {Elman: ElmanParams, LSTM: LSTMParams, GRU: GRUParams, ResetAfterMGU: ResetAfterMGUParams}
MGU_WITHOUT_RESET = {"if/kernel", "if/bias", "in/kernel", "in/bias", "hf/kernel", "hn/kernel"}


def read_layer(tree: Any, read_cell: Callable[[Leaves], tuple[Cell, Any]]) -> tuple[Layer, Any]:
    """Converts the tree of a cell, or of a bidirectional pair of cells, below the names of the modules around it."""
    if not isinstance(tree, Mapping):
        raise TypeError(
            "weights must be a tree of names and arrays, as returned by init or nnx.state, "
            f"but they are of type {type(tree).__name__}"
        )
    tree = {name: node for name, node in tree.items() if name != "rngs"}
    directions = {"forward_rnn", "backward_rnn"}
    if directions == set(tree):
        forward, backward = (read_layer(tree[name], read_cell) for name in ("forward_rnn", "backward_rnn"))
        return join_directions(forward, backward)
    if directions & set(tree):
        raise ValueError(
            f"the tree of a Bidirectional must hold forward_rnn and backward_rnn, but it holds {[*tree]}: "
            "if both directions share one cell, give its tree twice"
        )
    if len(tree) == 1 and isinstance(node := next(iter(tree.values())), Mapping):
        return read_layer(node, read_cell)  # below a name such as params, rnn, cell or LSTMCell_0
    return read_cell(dict(_named_leaves(tree)))


def write_layer(
    layer: Layer,
    params: Any,
    write_cell: Callable[[Any, Any], dict[str, Any]],
    library: str,
    convertible: Iterable[type],
) -> dict[str, Any]:
    """Converts a cell, or a bidirectional pair of cells, to a tree."""
    if type(layer) is Bidirectional:
        both = split_directions(layer, params)
        trees = [write_layer(part, p, write_cell, library, convertible) for part, p in both]
        return {name: {"cell": tree} for name, tree in zip(("forward_rnn", "backward_rnn"), trees, strict=True)}
    if not isinstance(layer, Cell) or type(layer) not in convertible:
        raise cannot_convert(layer, library, [*convertible, Bidirectional])
    return write_cell(layer, check_params(layer, params))


def read_gates(leaves: Leaves) -> tuple[Cell, Any]:
    """Converts the arrays of a cell that has a dense layer per gate."""
    for kind in GATES:
        names_of_params = _gate_names(kind)
        if set(leaves) == {name for names in names_of_params for name in names}:
            params = PARAMS[kind](*(join_gates(*(leaves[name] for name in names)) for names in names_of_params))
            cell = kind(hidden_size=params.w_h.shape[0])
            return cell, check_params(cell, params)
    if set(leaves) == MGU_WITHOUT_RESET:
        raise TypeError(
            "MGUCell(reset_gate=False) cannot be converted: jaxrnn's ResetAfterMGU always has a reset gate, "
            "with a bias inside"
        )
    raise unknown_cell(leaves)


def write_gates(layer: Cell, params: Any) -> dict[str, Any]:
    """Converts a cell to the tree of a cell that has a dense layer per gate."""
    tree: dict[str, Any] = {}
    for names, leaf in zip(_gate_names(type(layer)), params, strict=True):
        for name, gate in zip(names, split_gates(leaf, len(names)), strict=True):
            dense, part = name.split("/")
            tree.setdefault(dense, {})[part] = gate
    return tree


def unknown_cell(leaves: Leaves) -> ValueError:
    """Returns the error for arrays that are not those of a known cell."""
    shapes = {name: leaf.shape for name, leaf in [*leaves.items()][:12]}
    return ValueError(
        "weights must be those of one SimpleCell, LSTMCell, OptimizedLSTMCell, GRUCell or MGUCell, or of a "
        f"Bidirectional of two, but their shapes are {shapes}: give the tree of a single layer"
    )


def _named_leaves(tree: Mapping[Any, Any], above: str = "") -> Iterator[tuple[str, Array]]:
    """Yields the arrays of a tree with their names, which are joined by slashes."""
    for name, node in tree.items():
        if isinstance(node, Mapping):
            yield from _named_leaves(node, f"{above}{name}/")
        else:  # an array, or a box around one, such as nnx.Param
            yield from ((f"{above}{name}", as_array(leaf)) for leaf in jax.tree.leaves(node))


def _gate_names(kind: type) -> tuple[list[str], ...]:
    """Returns, for each array of a cell's parameters, the names of the arrays of its gates."""
    gates, biased = GATES[kind], "h" if kind is LSTM else "i"
    w_x = [f"i{gate}/kernel" for gate in gates]
    w_h = [f"h{gate}/kernel" for gate in gates]
    b = [f"{biased}{gate}/bias" for gate in gates]
    return (w_x, w_h, b, ["hn/bias"]) if "b_n" in PARAMS[kind]._fields else (w_x, w_h, b)
