"""The cells, parameters and data that all contenders share."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array
from support import cells

import jaxrnn

Size = tuple[int, int, int]  # batch, time, hidden size


class Case(NamedTuple):
    """One or more equal recurrent layers, their parameters, and data."""

    name: str  # of the cell
    cell: Any  # the cell, or a network of it
    params: list[Any]  # of each layer
    xs: Array  # [time, batch, features], or for a language model symbols [time + 1, batch]
    weights: Array  # of the outputs in the loss; for a language model those of the dense layer [hidden, symbols]
    lengths: Array | None = None  # of the sequences [batch]


NETWORKS: dict[str, Callable[[Any], Any]] = {
    "two bidirectional layers": lambda cell: jaxrnn.Stack(*2 * [jaxrnn.Bidirectional(cell)]),
    "three layers": lambda cell: jaxrnn.Stack(*3 * [cell]),
}


def make_cell(name: str, hidden: int) -> Any:
    """Makes a cell by its name in jaxrnn. ReluElman is an Elman cell with ReLU."""
    return jaxrnn.Elman(hidden, activation=jax.nn.relu) if name == "ReluElman" else cells.make_cell(name, hidden)


def make_case(name: str, size: Size, layers: int = 1, symbols: int | None = None, dtype: str = "float32") -> Case:
    """Makes one or more equal layers. With `symbols`, a number of symbols, it makes a language model of them."""
    batch, time, hidden = size
    cell = make_cell(name, hidden)
    keys = iter(jax.random.split(jax.random.key(0), 2 * layers + 2))
    params = []
    for n in range(layers):
        p = cell.init(next(keys), symbols if symbols and n == 0 else hidden)
        params.append(with_biases(p, next(keys)))
    if symbols:
        xs = jax.random.randint(next(keys), (time + 1, batch), 0, symbols)
        return Case(name, cell, params, xs, jaxrnn.Dense(symbols).init(next(keys), hidden).w)
    return with_data(Case(name, cell, params, *2 * (jnp.zeros(()),)), size, next(keys), dtype)


def make_network(network: str, name: str, size: Size) -> Case:
    """Makes a network of a cell as one layer: one of NETWORKS, or for "lengths" a layer and random sequence lengths."""
    batch, time, hidden = size
    cell = NETWORKS.get(network, lambda cell: cell)(make_cell(name, hidden))
    for_params, for_biases, for_data, for_lengths = jax.random.split(jax.random.key(0), 4)
    params = with_biases(cell.init(for_params, hidden), for_biases)
    case = with_data(Case(name, cell, [params], *2 * (jnp.zeros(()),)), size, for_data)
    if network != "lengths":
        return case
    return case._replace(lengths=jax.random.randint(for_lengths, (batch,), 1, time + 1).at[0].set(time))


def with_data(case: Case, size: Size, key: Array, dtype: str = "float32") -> Case:
    """Adds random inputs and weights of the loss, and casts everything to a dtype."""
    batch, time, hidden = size
    for_xs, for_weights = jax.random.split(key)
    xs = jax.random.normal(for_xs, (time, batch, hidden))
    ys = jax.eval_shape(lambda: jaxrnn.unroll(case.cell, case.params[0], xs)[1])
    weights = jax.random.normal(for_weights, ys.shape)
    params, xs, weights = jax.tree.map(lambda x: x.astype(dtype), (case.params, xs, weights))
    return case._replace(params=params, xs=xs, weights=weights)


def has_bias(params: Any) -> bool:
    return hasattr(params, "b")


def with_biases(params: Any, key: Array) -> Any:
    """Adds noise to biases, so that none is zero."""

    def add(n: Iterator[int], p: Any) -> Any:
        if not has_bias(p):
            return p
        return p._replace(b=p.b + 0.1 * jax.random.normal(jax.random.fold_in(key, next(n)), p.b.shape))

    numbers = iter(range(100))
    return jax.tree.map(lambda p: add(numbers, p), params, is_leaf=has_bias)


def cell_params(case: Case) -> list[Any]:
    """Returns the parameters of all cells, layer by layer; in bidirectional layers, those of the forward cell first."""
    return jax.tree.leaves(case.params, is_leaf=lambda p: hasattr(p, "w_x"))


def gigaflop(case: Case, mode: str) -> float:
    """Returns the number of operations in products: two per weight and token, and in a gradient three times as many."""
    time, batch = case.xs.shape[:2]
    tokens = time * batch if case.lengths is None else int(case.lengths.sum())
    if mode != "training":
        return gigaflop_of(case.params, tokens, mode)
    # The product of a one-hot vector is a lookup, which does not count; that of the dense layer does.
    other = case.weights.size - case.params[0].w_x.size
    return gigaflop_of(case.params, (time - 1) * batch, mode) + 6e-9 * other * (time - 1) * batch


def gigaflop_of(params: Any, tokens: int, mode: str) -> float:
    """Returns the number of operations in products with all weight matrices, in units of 1e9."""
    weights = sum(leaf.size for leaf in jax.tree.leaves(params) if leaf.ndim == 2 and min(leaf.shape) > 3)
    return (2e-9 if mode == "forward" else 6e-9) * weights * tokens


def sizes_of(case: Case) -> dict[str, int]:
    """Returns batch, time, input size, hidden size and number of layers."""
    time, batch = case.xs.shape[0] - (case.xs.ndim == 2), case.xs.shape[1]
    first, layers = cell_params(case)[0], len(case.params)
    if isinstance(case.cell, jaxrnn.Stack):
        layers = len(case.cell.layers)
    hidden = case.weights.shape[0] if case.xs.ndim == 2 else case.xs.shape[-1]
    return {"B": batch, "T": time, "I": first.w_x.shape[0], "H": hidden, "L": layers}
