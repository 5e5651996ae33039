"""What the zoo of cells found: a row for each cell and task, the table and the plot."""

from __future__ import annotations

import csv
import io
import math
from pathlib import Path
from typing import Any, NamedTuple

import common
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.ticker import NullFormatter
from run_directory import write
from zoo_tasks import TASKS

import jaxrnn

COLUMNS: tuple[str, ...] = ("task", "cell", "failure", "test", "valid", "loss", "learning_rate")
COLUMNS += ("hidden_size", "parameters", "updates", "seconds", "compiled")
KINDS = {"linear in its state": "#c1440e", "a state of one array": "#1f5fa8", "of several": "#3a923a"}


class Entry(NamedTuple):
    task: str
    cell: str

    def __str__(self) -> str:
        return f"{self.cell} | {self.task}"


def kind_of(cell: str) -> str:
    if issubclass(common.cell_class(cell), jaxrnn.LinearCell):
        return "linear in its state"
    return "a state of one array" if len(getattr(jaxrnn, f"{cell}State")._fields) == 1 else "of several"


class Results:
    """results.csv in the run directory, written after each entry."""

    def __init__(self, run_dir: Path):
        self.path = run_dir / "results.csv"
        rows = csv.DictReader(self.path.read_text().splitlines()) if self.path.exists() else []
        self.rows: dict[Entry, dict[str, str]] = {Entry(row["task"], row["cell"]): row for row in rows}

    def add(self, entry: Entry, row: dict[str, Any]) -> None:
        told = {n: f"{v:.6g}" if isinstance(v, float | np.floating) else str(v) for n, v in row.items()}
        self.rows[entry] = dict.fromkeys(COLUMNS, "") | told | entry._asdict()
        text = io.StringIO()
        table = csv.DictWriter(text, list(COLUMNS), lineterminator="\n")
        table.writeheader()
        table.writerows(self.rows.values())
        write(self.path, text.getvalue())

    def of(self, entry: Entry) -> float:
        """What the cell reached; NaN if it failed or has not run."""
        row = self.rows.get(entry)
        return float(row["test"]) if row and not row["failure"] else math.nan

    def line(self, entry: Entry) -> str:
        row = self.rows[entry]
        if row["failure"]:
            return f"{entry!s:<36} failed: {row['failure']}"
        rate = float(row["updates"]) / float(row["seconds"])
        return (
            f"{entry!s:<36} {TASKS[entry.task]().measure} {float(row['test']):.4f}, {int(row['updates']):,} updates at"
            f" {row['learning_rate']}, {rate:,.0f} a second; hidden size {row['hidden_size']}"
        )

    @property
    def tasks(self) -> list[str]:
        """The tasks there are results of."""
        return [task for task in TASKS if any(entry.task == task for entry in self.rows)]

    def cells(self) -> list[str]:
        """The cells, the best first: by their mean rank over the tasks, a failure behind all others."""
        cells = sorted({entry.cell for entry in self.rows}, key=str.lower)
        ranks = dict.fromkeys(cells, 0.0)
        for task in self.tasks:
            reached = np.nan_to_num([self.of(Entry(task, cell)) for cell in cells], nan=np.inf)
            for cell, value in zip(cells, reached, strict=True):
                ranks[cell] += (reached < value).sum() + (reached == value).sum() / 2
        return sorted(cells, key=lambda cell: ranks[cell])

    def table(self) -> str:
        """In Markdown, a row a cell."""
        heads = [f"{task}, {TASKS[task]().measure}" for task in self.tasks]
        best = {
            task: min(np.nan_to_num([self.of(Entry(task, c)) for c in self.cells()], nan=np.inf)) for task in self.tasks
        }
        head = ["", "cell", *heads, "hidden sizes", "thousands of updates", "compiled in, s"]
        lines = [f"| {' | '.join(head)} |", "|---" * len(head) + "|"]
        for place, cell in enumerate(self.cells(), 1):
            rows = [self.rows.get(Entry(task, cell), {"failure": "not run"}) for task in self.tasks]
            values = [self.of(Entry(task, cell)) for task in self.tasks]
            shown = [
                row["failure"] if math.isnan(value) else f"**{value:.3g}**" if value == best[task] else f"{value:.3g}"
                for task, row, value in zip(self.tasks, rows, values, strict=True)
            ]
            trained = [row for row in rows if row.get("updates")]
            facts = (
                ", ".join(row["hidden_size"] for row in trained),
                ", ".join(f"{float(row['updates']) / 1000:.2g}" for row in trained),
                ", ".join(f"{float(row['compiled']):.0f}" for row in trained),
            )
            lines.append(f"| {place} | `{cell}` | {' | '.join(shown)} | {' | '.join(facts)} |")
        others = {name for task in self.tasks for name in TASKS[task]().baselines}
        for name in sorted(others):
            shown = [TASKS[task]().baselines.get(name) for task in self.tasks]
            lines.append(f"| | {name} | {' | '.join('' if v is None else f'{v:.3g}' for v in shown)} | | | |")
        return "\n".join(lines) + "\n"

    def save(self) -> None:
        """The table, and the plot: a panel a task, a dot a cell, in the order of the table."""
        write(self.path.with_name("table.md"), self.table())
        cells, tasks = self.cells()[::-1], self.tasks
        figure, axes = plt.subplots(
            1, len(tasks), figsize=(1.5 + 3.4 * len(tasks), 1.5 + 0.155 * len(cells)), sharey=True, squeeze=False,
            layout="constrained",
        )  # fmt: skip
        for task, ax in zip(tasks, axes.flat, strict=True):
            made, values = TASKS[task](), [self.of(Entry(task, cell)) for cell in cells]
            top = 1.02 * max([value for value in made.baselines.values() if value < 4], default=1.0)
            for kind, colour in KINDS.items():
                places = [n for n, cell in enumerate(cells) if kind_of(cell) == kind]
                ax.plot([min(values[n], top) for n in places], places, "o", color=colour, markersize=4, label=kind)
            failed = [n for n, value in enumerate(values) if math.isnan(value)]
            ax.plot([top] * len(failed), failed, "x", color="#9aa5b1", markersize=5, label="failed")
            for name, value in made.baselines.items():
                if value <= top:
                    ax.axvline(value, color="#9aa5b1", linestyle="--", linewidth=1)
                    ax.text(value, -0.6, f"{name} ", color="#5b6672", fontsize=7, rotation=90, ha="right", va="bottom")
            ax.set(title=task, xlabel=made.measure)
            if made.measure == "squared error":
                ax.set_xscale("log")
                ax.xaxis.set_minor_formatter(NullFormatter())
            ax.margins(x=0.08)
            ax.grid(axis="y", alpha=0.25)
            ax.spines[["top", "right"]].set_visible(False)
        axes[0, 0].set_yticks(range(len(cells)), cells, fontsize=7)
        axes[0, 0].set_ylim(-1, len(cells))
        figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=4, frameon=False)
        figure.savefig(self.path.with_name("zoo.png"), dpi=130)
        plt.close(figure)
