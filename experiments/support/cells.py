"""Cells of jaxrnn by their names."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax

import jaxrnn
from support.errors import BadInputError


def cell_class(name: str) -> type[jaxrnn.Cell]:
    try:
        return jaxrnn.cells.find(name)
    except LookupError as error:
        raise BadInputError(str(error)) from None


def with_cell_names(group: Any) -> Any:
    """Returns a group of options with the names of --cell as jaxrnn spells them, given in any case."""
    given = getattr(group, "cell", None)
    if not given:
        return group

    def spelled(name: str) -> str:
        others = {other.lower(): other for other in group.other_cells}
        if name.lower() in others:
            return others[name.lower()]
        try:
            return cell_class(name).__name__
        except BadInputError:
            if close := [other for lower, other in others.items() if name.lower() in lower]:
                raise BadInputError(f"there is no cell named {name!r}: did you mean {' or '.join(close)}?") from None
            raise

    return dataclasses.replace(group, cell=spelled(given) if isinstance(given, str) else tuple(map(spelled, given)))


def make_cell(name: str, hidden_size: int, num_symbols: int | None = None, **given: Any) -> jaxrnn.Cell:
    """Makes a cell by its name in jaxrnn. Other sizes that it needs and that are not given are half the hidden size.

    If a number of symbols is given, the cell must be able to read symbols without an embedding.
    """
    kind = cell_class(name)
    needed = [f.name for f in dataclasses.fields(kind) if f.default is dataclasses.MISSING]  # type: ignore[arg-type]
    sizes = {n: hidden_size if n == "hidden_size" else max(1, hidden_size // 2) for n in needed}
    try:
        cell = kind(**sizes | given)
        if num_symbols is not None:
            params = jax.eval_shape(lambda: cell.init(jax.random.key(0), num_symbols))
            symbols = jax.ShapeDtypeStruct((1, 3), "int32")  # nothing is computed: devices may not be chosen yet
            jax.eval_shape(lambda p, xs: jaxrnn.unroll(cell, p, xs), params, symbols)
    except (TypeError, ValueError) as error:
        raise BadInputError(f"--cell {name} cannot be of size {hidden_size} here: {error}") from None
    return cell


def scale_input_weights(layer: jaxrnn.Layer, params: Any, num_symbols: int) -> Any:
    """Enlarges the weights from the input by sqrt(num_symbols), for a layer that reads symbols.

    Initializers expect that all input features are present at once, but a symbol is a single one. Weights from the
    input are the arrays whose shape depends on the input size.
    """
    one_more = jax.eval_shape(lambda: layer.init(jax.random.key(0), num_symbols + 1))
    return jax.tree.map(lambda p, other: p if p.shape == other.shape else p * num_symbols**0.5, params, one_more)


def count_parameters(params: Any) -> int:
    return sum(leaf.size for leaf in jax.tree.leaves(params))
