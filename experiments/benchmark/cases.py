"""The inputs of the contenders: cells, parameters and data."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
from jax import Array
from support import cells

import jaxrnn


class Case(NamedTuple):
    """A cell, the parameters of one or more layers of it, and data. The same for all contenders."""

    name: str  # of the cell
    cell: Any
    params: list[Any]
    xs: Array  # [time, batch, features], or for a language model symbols [time + 1, batch]
    weights: Array  # of the outputs in the loss; for a language model [hidden, symbols], the weights of the logits


def make_cell(name: str, hidden: int) -> Any:
    """Makes a cell by its name in jaxrnn. ReluElman is an Elman cell with ReLU."""
    return jaxrnn.Elman(hidden, activation=jax.nn.relu) if name == "ReluElman" else cells.make_cell(name, hidden)


def make_case(
    name: str, size: tuple[int, int, int], layers: int = 1, symbols: int | None = None, dtype: str = "float32"
) -> Case:
    batch, time, hidden = size
    cell = make_cell(name, hidden)
    keys = iter(jax.random.split(jax.random.key(0), 2 * layers + 2))
    params = []
    for n in range(layers):
        p = cell.init(next(keys), symbols if symbols and n == 0 else hidden)
        params.append(p._replace(b=p.b + 0.1 * jax.random.normal(next(keys), p.b.shape)))  # so that no bias is zero
    if symbols:
        xs = jax.random.randint(next(keys), (time + 1, batch), 0, symbols)
        return Case(name, cell, params, xs, jaxrnn.Dense(symbols).init(next(keys), hidden).w)
    xs = jax.random.normal(next(keys), (time, batch, hidden))
    ys = jax.eval_shape(lambda: jaxrnn.unroll(cell, params[0], xs)[1])
    case = Case(name, cell, params, xs, jax.random.normal(next(keys), ys.shape))
    params, xs, weights = jax.tree.map(lambda x: x.astype(dtype), (case.params, case.xs, case.weights))
    return case._replace(params=params, xs=xs, weights=weights)


def gigaflop(case: Case, mode: str) -> float:
    """Counts the operations of the products: two per weight and token, and as many for each of two gradients."""
    matrices = [leaf.size for leaf in jax.tree.leaves(case.params) if leaf.ndim == 2 and min(leaf.shape) > 3]
    weights = sum(matrices)
    time, batch = case.xs.shape[:2]
    if mode == "training":  # the product of a symbol is only a row of the weights
        time, weights = time - 1, weights - case.params[0].w_x.size + case.weights.size
    return (2 if mode == "forward" else 6) * weights * time * batch / 1e9


def sizes_of(case: Case) -> dict[str, int]:
    """Returns batch, time, input size, hidden size and number of layers."""
    time, batch = case.xs.shape[0] - (case.xs.ndim == 2), case.xs.shape[1]
    return {"B": batch, "T": time, "I": case.params[0].w_x.shape[0], "H": case.cell.hidden_size, "L": len(case.params)}
