"""Results of the zoo: a row per cell and task, the table and the plot."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from matplotlib.ticker import NullFormatter
from support.cells import cell_class
from support.files import read_table, write_table, write_whole
from support.plots import BLUE, GRAY, GREEN, RED, figure

import jaxrnn
from zoo.tasks import TASKS

COLUMNS = (
    "task", "cell", "failure", "test", "valid", "loss", "learning_rate",
    "hidden_size", "parameters", "updates", "seconds", "compiled",
)  # fmt: skip


def number(text: str) -> float:
    """Returns a number of the table; NaN if the cell failed."""
    return float(text or "nan")


READ = dict.fromkeys(COLUMNS, str) | {"test": number, "parameters": number, "updates": number, "compiled": number}
KINDS = {"linear in its state": RED, "state of one array": BLUE, "state of several arrays": GREEN}


class Entry(NamedTuple):
    task: str
    cell: str

    def __str__(self) -> str:
        return f"{self.cell} | {self.task}"


def as_shown(value: float) -> float:
    """Returns a test result as the table shows it. Results that look equal there have the same rank."""
    return float(f"{value:.3g}")


def kind_of(cell: str) -> str:
    if issubclass(cell_class(cell), jaxrnn.LinearCell):
        return "linear in its state"
    state = getattr(jaxrnn.cells, f"{cell}State")
    return "state of one array" if len(state._fields) == 1 else "state of several arrays"


def read_rows(path: Path) -> dict[Entry, dict[str, str]]:
    return {Entry(row["task"], row["cell"]): row for row in read_table(path, **READ)}


class Results:
    """results.csv in the run directory, written after each entry."""

    def __init__(self, run_dir: Path):
        self.path = run_dir / "results.csv"
        self.rows = read_rows(self.path)

    def keep(self, others: dict[Entry, dict[str, str]]) -> None:
        """Adds rows of another run, unless there are rows of these cells and tasks."""
        self.rows = others | self.rows

    def add(self, entry: Entry, row: dict[str, Any]) -> None:
        values = {n: f"{v:.6g}" if isinstance(v, float | np.floating) else str(v) for n, v in row.items()}
        self.rows[entry] = dict.fromkeys(COLUMNS, "") | values | entry._asdict()
        write_table(self.path, COLUMNS, self.rows.values())

    def of(self, entry: Entry) -> float:
        """Returns the test result of a cell as the table shows it; NaN if it failed or has not run."""
        row = self.rows.get(entry)
        return as_shown(float(row["test"])) if row and not row["failure"] else math.nan

    def line(self, entry: Entry) -> str:
        row = self.rows[entry]
        if row["failure"]:
            return f"{entry!s:<36} failed: {row['failure']}"
        rate = float(row["updates"]) / float(row["seconds"])
        return (
            f"{entry!s:<36} {TASKS[entry.task]().measure} {float(row['test']):.4f}, {int(row['updates']):,} steps at"
            f" {row['learning_rate']}, {rate:,.0f} per second; hidden size {row['hidden_size']}"
        )

    @property
    def tasks(self) -> list[str]:
        """The tasks that have results."""
        return [task for task in TASKS if any(entry.task == task for entry in self.rows)]

    def cells(self) -> list[str]:
        """Returns the cells, best first: by their mean rank over the tasks. A failure ranks behind all others."""
        cells = sorted({entry.cell for entry in self.rows}, key=str.lower)
        ranks = dict.fromkeys(cells, 0.0)
        for task in self.tasks:
            reached = np.nan_to_num([self.of(Entry(task, cell)) for cell in cells], nan=np.inf)
            for cell, value in zip(cells, reached, strict=True):
                ranks[cell] += (reached < value).sum() + (reached == value).sum() / 2
        return sorted(cells, key=lambda cell: ranks[cell])

    def table(self) -> str:
        """Returns the table in Markdown, a row per cell."""
        heads = [f"{task}, {TASKS[task]().measure}" for task in self.tasks]
        best = {
            task: min(np.nan_to_num([self.of(Entry(task, c)) for c in self.cells()], nan=np.inf)) for task in self.tasks
        }
        head = ["", "cell", *heads, "hidden sizes", "thousands of steps", "compilation, s"]
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
        """Writes the table, and the plot: a panel per task, a dot per cell, in the order of the table."""
        write_whole(self.path.with_name("table.md"), self.table())
        cells, tasks = self.cells()[::-1], self.tasks
        size = 1.5 + 3.4 * len(tasks), 1.5 + 0.155 * len(cells)
        path = self.path.with_name("zoo.png")
        with figure(path, columns=len(tasks), dpi=130, figsize=size, sharey=True) as (drawn, grid):
            for task, axes in zip(tasks, grid[0], strict=True):
                self.plot_task(axes, task, cells)
            left = grid[0, 0]
            left.set_yticks(range(len(cells)), cells, fontsize=7)
            left.set_ylim(-1, len(cells))
            drawn.legend(*left.get_legend_handles_labels(), loc="outside lower center", ncols=4)

    def plot_task(self, axes: Any, name: str, cells: list[str]) -> None:
        task = TASKS[name]()
        values = [self.of(Entry(name, cell)) for cell in cells]
        top = 1.02 * max([value for value in task.baselines.values() if value < 4], default=1.0)
        for kind, color in KINDS.items():
            places = [n for n, cell in enumerate(cells) if kind_of(cell) == kind]
            axes.plot([min(values[n], top) for n in places], places, "o", color=color, markersize=4, label=kind)
        failed = [n for n, value in enumerate(values) if math.isnan(value)]
        axes.plot([top] * len(failed), failed, "x", color=GRAY, markersize=5, label="failed")
        for baseline, value in task.baselines.items():
            if value <= top:
                axes.axvline(value, color=GRAY, linestyle="--", linewidth=1)
                style = {"fontsize": 7, "rotation": 90, "ha": "right", "va": "bottom"}
                axes.text(value, -0.6, f"{baseline} ", color="#5b6672", **style)
        axes.set(title=name, xlabel=task.measure)
        if task.measure == "squared error":
            axes.set_xscale("log")
            axes.xaxis.set_minor_formatter(NullFormatter())
        axes.margins(x=0.08)
        axes.grid(False, axis="x")
