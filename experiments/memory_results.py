"""The table of the memory experiment: what it keeps, says and draws."""

from __future__ import annotations

import csv
import io
import math
import time
from pathlib import Path
from typing import Any, Literal, NamedTuple

import common
import matplotlib.pyplot as plt
import numpy as np
from memory_tasks import TASKS
from run_directory import write

EACH = 100  # updates a point of the curves
TEST = 2560  # sequences of the test, as in the paper


class Entry(NamedTuple):
    """A row of the table. An empty forget bias is the cell's own."""

    task: str
    length: int
    cell: str
    forget_bias: float | Literal["chrono", ""]

    def __str__(self) -> str:
        return f"{self.task} {self.length} | {self.named_cell}"

    @property
    def named_cell(self) -> str:
        return f"{self.cell} {self.forget_bias}".strip()


class Results:
    """results.csv in the run directory: a row for each network, written after each entry."""

    def __init__(self, run_dir: Path, entries: list[Entry], updates: int, batch: int):
        self.path, self.entries, self.updates, self.batch = run_dir / "results.csv", entries, updates, batch
        self.rows = list(csv.DictReader(self.path.read_text().splitlines())) if self.path.exists() else []

    def of(self, entry: Entry) -> list[dict[str, str]]:
        key = {name: str(value) for name, value in entry._asdict().items()}
        return [row for row in self.rows if key.items() <= row.items()]

    def add(self, entry: Entry, learners: Any, wrong: Any, curves: list[Any], started: float) -> None:
        columns = (learners.seed, learners.solved, np.asarray(wrong), np.transpose(curves))
        seconds = f"{time.perf_counter() - started:.1f}"
        for seed, after, number, curve in zip(*columns, strict=True):
            told = {"seed": seed, "solved_after": after, "wrong": number, "seconds": seconds}
            row = entry._asdict() | told | {"curve": " ".join(f"{measure:.4g}" for measure in curve)}
            self.rows.append({name: str(value) for name, value in row.items()})
        text = io.StringIO()
        table = csv.DictWriter(text, self.rows[0], lineterminator="\n")
        table.writeheader()
        table.writerows(self.rows)
        write(self.path, text.getvalue())

    def summary(self, entry: Entry) -> str:
        """A line of the table: medians over the networks."""
        if not (rows := self.of(entry)):
            return f"{entry!s:<26} not run"
        solved = [int(row["solved_after"]) or math.inf for row in rows]
        limit, median = self.updates * self.batch, float(np.median(solved))
        after = f"solved after {median:,.0f}" if median < math.inf else f"not solved after {limit:,}"
        error = np.median([float(row["curve"].split()[-1]) for row in rows])
        wrong, task = np.median([int(row["wrong"]) for row in rows]), TASKS[entry.task]
        return (
            f"{entry!s:<26} {after:<26} {sum(map(math.isfinite, solved))} of {len(rows)} networks, {task.measure}"
            f" {error:.4f} (baseline {task.baseline(entry.length):.3f}), {wrong:,.0f} of {TEST:,} test sequences wrong,"
            f" {common.span(float(rows[0]['seconds']))}"
        )

    def plot(self) -> None:
        """The median network's error against sequences; a panel a task, a curve a cell."""
        entries = [entry for entry in self.entries if self.of(entry)]
        panels = list(dict.fromkeys(entry[:2] for entry in entries))
        colours = {cell: f"C{n}" for n, cell in enumerate(dict.fromkeys(entry.named_cell for entry in entries))}
        down, across = math.ceil(len(panels) / 2), min(2, len(panels))
        figure, axes = plt.subplots(
            down, across, figsize=(4.6 * across, 3.3 * down), layout="constrained", squeeze=False
        )
        for (name, length), ax in zip(panels, axes.flat, strict=False):
            for entry in (entry for entry in entries if entry[:2] == (name, length)):
                curve = np.median([np.array(row["curve"].split(), float) for row in self.of(entry)], axis=0)
                numbers = np.minimum(EACH * np.arange(1, len(curve) + 1), self.updates) * self.batch / 1000
                ax.plot(numbers, curve, color=colours[entry.named_cell], label=entry.named_cell)
            baseline = TASKS[name].baseline(length)
            ax.axhline(baseline, color="#9aa5b1", linestyle="--", label="no memory")
            ax.set(
                title=f"{name} {length}",
                xlabel="thousands of sequences",
                ylabel=TASKS[name].measure,
                ylim=(0, 1.4 * baseline),
            )
            ax.grid(alpha=0.25)
        axes.flat[0].legend(frameon=False, fontsize=8)
        for ax in axes.flat[len(panels) :]:
            ax.axis("off")
        figure.savefig(self.path.with_name("curves.png"), dpi=160)
        plt.close(figure)
