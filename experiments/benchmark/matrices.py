"""Cells with a matrix as state: the gradient in `Chunked` and step by step, its time and its temporary memory."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from support import cells

import jaxrnn
from benchmark import work
from benchmark.budget import Cost
from benchmark.cases import Case, Size, with_biases, with_data
from benchmark.contenders import DEFERRED, MLSTM_KERNELS, NATIVE, OURS, OWN_BACKWARD, knows, missing
from benchmark.measuring import Benchmark
from benchmark.work import Task, measure

CELLS = (
    "LinearAttention",
    "Retention",
    "GatedLinearAttention",
    "Mamba2",
    "MLSTM",
    "DeltaNet",
    "GatedDeltaNet",
    "KimiDeltaAttention",
    "RWKV7",
)
HEADS = (4, 1)
AMONG = (OURS, DEFERRED, NATIVE, *MLSTM_KERNELS)  # OURS, the default loop, is `Chunked` here
# Predictions: seconds per program, passes over the state per step, and bytes per second.
COMPILING, PASSES, BANDWIDTH = 4.0, 10, 5e9


def is_matrix_cell(name: str) -> bool:
    return issubclass(getattr(jaxrnn, name, object), jaxrnn.MatrixCell)


def make_matrix_cell(name: str, hidden: int, heads: int) -> jaxrnn.Cell | None:
    """Makes a cell with heads of size hidden / heads; None if the cell has no heads, but is asked for several."""
    kind: Any = cells.cell_class(name)
    if "num_heads" in {field.name for field in dataclasses.fields(kind)}:
        return cells.make_cell(name, hidden, num_heads=heads)
    sizes = {"key_size": hidden, "value_size": hidden} if name == "LinearAttention" else {}
    return cells.make_cell(name, hidden, **sizes) if heads == 1 else None


def make_case(name: str, cell: jaxrnn.Cell, size: Size, dtype: str) -> Case:
    for_params, for_biases, for_data = jax.random.split(jax.random.key(0), 3)
    params = with_biases(cell.init(for_params, size[-1]), for_biases)
    return with_data(Case(name, cell, [params], *2 * (jnp.zeros(()),)), size, for_data, dtype)


def points(bench: Benchmark, names: Sequence[str]) -> Iterator[tuple[str, Cost, Callable[[int], None]]]:
    """Yields the name, the predicted cost and the function of each measurement, which takes a number of rounds."""
    for size in bench.options.sizes_of("matrices"):
        for name in names:
            for heads in HEADS:
                if cell := make_matrix_cell(name, size[-1], heads):
                    label = f"gradient, {heads} head{'s' * (heads > 1)}"
                    yield (
                        f"parallel: {name}, {label}, {'x'.join(map(str, size))}",
                        predict(bench, name, cell, size),
                        partial(time_gradient, bench, name, cell, size, label),
                    )


def predict(bench: Benchmark, name: str, cell: jaxrnn.Cell, size: Size) -> Cost:
    compared = (OURS, *bench.options.compared)
    here = [other for other in AMONG if other in compared and knows(other, name) and not missing(other)]
    batch, time, hidden = size
    state = jax.eval_shape(lambda: cell.initial_state(cell.init(jax.random.key(0), hidden), (batch,)))
    call = time * PASSES * sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(state)) / BANDWIDTH
    return Cost((COMPILING + 2 * call) * len(here), call * len(here))


def time_gradient(bench: Benchmark, name: str, cell: jaxrnn.Cell, size: Size, label: str, rounds: int) -> None:
    """Times the gradient with respect to parameters and inputs, and measures the temporary memory of JAX programs."""
    case = make_case(name, cell, size, bench.dtype)

    def task(contender: str, mode: str = "gradient") -> Task:
        return work.layers(contender, case, mode)

    chosen = bench.contenders(name, task, [other for other in AMONG if other not in OWN_BACKWARD])
    if any(knows(other, name) and other in bench.options.compared for other in OWN_BACKWARD):
        # Its backward pass omits the gradient of the denominator: only the outputs must be equal.
        equal = bench.contenders(name, partial(task, mode="forward"), OWN_BACKWARD)
        chosen |= {other: task(other) for other in equal if other != OURS}
    samples = measure(chosen, rounds)
    memory = {other: one.temporary_mib() for other, one in chosen.items() if one.temporary_mib}
    sizes: dict[str, Any] = {**dict(zip("BTIH", (*size, size[-1]), strict=True)), "L": 1}
    bench.add("parallel", name, label, sizes, samples, memory=memory)
