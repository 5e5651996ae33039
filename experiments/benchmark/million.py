"""Runs a sequence of a million steps, and measures its memory and its time per step against a short sequence."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from support.errors import BadInputError

from benchmark.cases import Size
from benchmark.measuring import TOLERANCES, Benchmark
from benchmark.report import Table

SHORT, CHUNK, PIECE = (
    1_000,
    1_000,
    10_000,
)  # steps of the short sequence, between two states that are kept, read at once
QUICK = 4, 5, 20
WAYS = "in one call", "from a file"
MODES = "forward", "gradient"


def write_series(path: Path, length: int, batch: int, features: int) -> None:
    """Writes a random series [length + 1, batch, features] in pieces."""
    shape, rng = (length + 1, batch, features), np.random.default_rng(0)
    series = np.lib.format.open_memmap(path, mode="w+", dtype=np.float32, shape=shape)
    for start in range(0, length + 1, PIECE):
        part = series[start : start + PIECE]
        part[:] = rng.standard_normal(part.shape, np.float32)
    series.flush()


def measure_one(bench: Benchmark, how: dict[str, Any]) -> dict[str, Any]:
    """Runs one cell in one way in a process of its own, and returns what it has measured."""
    worker = Path(__file__).with_name("million_worker.py")
    with (bench.path / "processes.log").open("a") as log:
        done = subprocess.run([sys.executable, worker, json.dumps(how)], stdout=subprocess.PIPE, stderr=log, text=True)
    if done.returncode:
        raise BadInputError(f"a process of --suite million has ended: its error is in {log.name}")
    return json.loads(done.stdout)


def million_suite(bench: Benchmark) -> None:
    """Times cells over a long sequence, with checkpoints in one call, and in pieces that are read from a file."""
    short, chunk, piece = QUICK if bench.options.quick else (SHORT, CHUNK, PIECE)
    rounds = min(bench.options.rounds, 3)
    for size in bench.options.sizes_of("million"):
        batch, length, hidden = size
        path = bench.path / "series.npy"
        write_series(path, length, batch, hidden)
        try:
            for cell in bench.options.cells_of("million"):
                how = {"cell": cell, "hidden": hidden, "path": str(path), "short": short, "chunk": chunk}
                how |= {"piece": piece, "rounds": rounds}
                found = {
                    (mode, way): measure_one(bench, how | {"way": way, "mode": mode}) for mode in MODES for way in WAYS
                }
                check(bench, cell, found)
                for (mode, way), one in found.items():
                    row = {"suite": "million", "cell": cell, "size": size, "mode": mode, "way": way}
                    bench.found.append(row | one)
                bench.tables.append(table_of(cell, size, short, found))
                print(bench.tables[-1].as_text(), flush=True)
                bench.save()
        finally:
            path.unlink()


def check(bench: Benchmark, cell: str, found: dict[tuple[str, str], dict[str, Any]]) -> None:
    """Records an error if the two ways differ in the loss or in the norm of the gradient."""
    for result, mode in (("loss", "forward"), ("loss", "gradient"), ("norm", "gradient")):
        one, other = (found[mode, way][result] for way in WAYS)
        if not abs(one - other) <= TOLERANCES["float32"] * abs(one):
            bench.wrong.append(f"million: the {result} of {cell} is {one} {WAYS[0]}, but {other} {WAYS[1]}")


def table_of(cell: str, size: Size, short: int, found: dict[tuple[str, str], dict[str, Any]]) -> Table:
    batch, length, hidden = size
    columns = ["temporaries, MiB", "peak memory, MiB", "µs per step", f"T = {short:,}", "ratio"]
    lines = []
    for (mode, way), one in found.items():
        long, brief = median(one["long"]), median(one["short"])
        texts = [f"{one['temporary_mib']:,.1f}", f"{one['peak_mib']:,.0f}", f"{long:.2f}", f"{brief:.2f}"]
        lines.append((mode, way, [*texts, f"{long / brief:.2f}"]))
    return Table(f"million, {cell}, B = {batch}, T = {length:,}, H = {hidden}", columns, lines)
