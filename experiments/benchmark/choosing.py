"""Which loop is fastest for which kind of cell and which length, on this machine."""

from __future__ import annotations

import itertools
import math
from typing import Any

import jax

import jaxrnn
from benchmark.cases import Size, make_cell
from benchmark.contenders import ASSOCIATIVE, DEFERRED, NATIVE, NEWTON, OURS, SCAN
from benchmark.report import Rows, Table, grouped

SUITE = "loops"
KINDS = {  # the cells of the suite, by how a step depends on the state
    "LSTM": "nonlinear, dense",
    "GRU": "nonlinear, dense",
    "ParaGRU": "nonlinear, elementwise",
    "MinGRU": "linear",
    "LRU": "linear, complex",
    "DeltaNet": "a matrix",
}
LOOPS = (OURS, DEFERRED, NATIVE, SCAN, ASSOCIATIVE, NEWTON)
HIDDEN = 64
SIZES = {  # batch and length on each platform
    "cpu": [(1, 100), (32, 100), (1, 1000), (32, 1000), (1, 100_000)],
    "gpu": list(itertools.product((1, 8, 64), (1024, 16_384, 131_072))),
}
LARGEST = {"cpu": 2**29, "gpu": 2**33}  # bytes of the states or Jacobians of all steps


def platform() -> str:
    return "cpu" if jax.default_backend() == "cpu" else "gpu"


def sizes_here() -> tuple[str, ...]:
    return tuple(f"{batch}x{length}x{HIDDEN}" for batch, length in SIZES[platform()])


def default_loop(name: str, size: Size) -> str:
    """Returns the name of the loop that `Auto` chooses."""
    batch, length, hidden = size
    cell = make_cell(name, hidden)
    params = jax.eval_shape(lambda: cell.init(jax.random.key(0), hidden))
    xs = jax.ShapeDtypeStruct((length, batch, hidden), "float32")
    (choice,) = jaxrnn.loops.Auto().choose(cell, params, xs)
    return type(choice.loop).__name__


def loops_of(name: str, size: Size) -> tuple[str, ...]:
    """Returns the loops to compare: the default one, and others that can run the cell and fit into memory."""
    batch, length, hidden = size
    cell = make_cell(name, hidden)
    state = jax.eval_shape(lambda: cell.initial_state(cell.init(jax.random.key(0), hidden)))
    numbers = sum(leaf.size for leaf in jax.tree.leaves(state))
    others = {DEFERRED: numbers, NATIVE: numbers, SCAN: numbers, ASSOCIATIVE: numbers}
    if KINDS.get(name, "").startswith("nonlinear"):
        others[NEWTON] = numbers**2 if "dense" in KINDS[name] else numbers
    chosen = f"jaxrnn {default_loop(name, size)}"
    fitting = [other for other, each in others.items() if 4 * batch * length * each <= LARGEST[platform()]]
    return (OURS, *(other for other in fitting if other != chosen))


def tables(rows: Rows) -> list[Table]:
    """Returns for this platform and for the other one a table of the loops, the fastest one first."""
    rows = [row for row in rows if row["suite"] == SUITE]
    cells = list(grouped(rows, "cell"))
    return [table_of(name, rows if name == platform() else [], cells) for name in SIZES]


def table_of(name: str, rows: Rows, cells: list[str]) -> Table:
    measured = [(row["B"], row["T"]) for row in rows] or SIZES[name]
    batches, lengths = (sorted(set(values)) for values in zip(*measured, strict=True))
    lines = []
    for cell, batch in itertools.product(cells, batches):
        own = [[row for row in rows if (row["cell"], row["B"], row["T"]) == (cell, batch, t)] for t in lengths]
        lines.append((f"{cell} ({KINDS.get(cell, 'other')})", f"B = {batch}", [in_order(some) for some in own]))
    title = f"loops, {name.upper()}, time of the gradient relative to the fastest loop (bold: the default)"
    return Table(title, [f"T = {length:,}" for length in lengths], lines)


def in_order(rows: Rows) -> str:
    """Returns the names of the loops in the order of their times, and the times relative to the first one."""
    if not rows:
        return "not measured"
    fastest = min(row["median_ms"] for row in rows)

    def text(row: dict[str, Any]) -> str:
        loop = row["contender"].removeprefix("jaxrnn ")
        if row["contender"] == OURS:
            loop = f"**{default_loop(row['cell'], (row['B'], row['T'], row['H']))}**"
        ratio = row["median_ms"] / fastest
        return loop if math.isclose(ratio, 1) else f"{loop} {ratio:.3g}"

    first, *others = sorted(rows, key=lambda row: row["median_ms"])
    return f"{text(first)} ({fastest:.3g} ms)" + "".join(f", {text(row)}" for row in others)
