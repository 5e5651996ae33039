"""The run directory of an experiment: its options, metrics, curves and checkpoints."""

from __future__ import annotations

import dataclasses
import json
import os
import platform
import shlex
import sys
from pathlib import Path
from typing import Any

import jax

import jaxrnn
from support.checkpoints import Checkpoints
from support.errors import BadInputError
from support.files import read_table, write_table, write_whole
from support.options import RunFolder, SavedOptions
from support.plots import plot_curves


class Run:
    """A run directory: config.json, metrics.csv, curves.png and checkpoints/ (the latest and the best).

    Args:
      folder: The directory, and whether to resume the run in it.
      options: The options that the run saves.
      facts: Other values that determine the run, such as the hash of its data. They must be the same on resuming.
      notes: Other values to keep in config.json.
    """

    def __init__(
        self, folder: RunFolder, options: SavedOptions, facts: dict[str, Any], notes: dict[str, Any] | None = None
    ):
        self.started = folder.started
        if folder.resume:
            self.path = folder.existing
            refuse_differences(self.path, read_config(self.path)["facts"], facts)
        else:
            self.path = folder.new
        try_writing(self.path)
        self.checkpoints = Checkpoints(self.path)
        self.rows: list[dict[str, Any]] = []  # of metrics.csv
        if folder.resume:
            rows = [{k: float(v) for k, v in row.items()} for row in read_table(self.path / "metrics.csv")]
            self.rows = [row for row in rows if row["step"] <= (self.checkpoints.step or 0)]
        else:
            versions = {"python": platform.python_version(), "jax": jax.__version__, "jaxrnn": jaxrnn.__version__}
            saved = {field.name: getattr(options, field.name) for field in dataclasses.fields(options)}
            config = {"config": saved, "facts": facts, "notes": notes, "versions": versions}
            write_whole(self.path / "config.json", json.dumps(config, indent=2, default=str))

    @staticmethod
    def open(run_dir: Path, options: SavedOptions, facts: dict[str, Any] | None = None) -> Run:
        """Opens an existing run. Its facts are checked if they are given."""
        known: dict[str, Any] = read_config(run_dir)["facts"] if facts is None else facts
        return Run(RunFolder(run_dir, resume=True), options, known)

    def record(self, step: int, seconds: float, **measured: float) -> None:
        """Adds a row to metrics.csv."""
        self.rows.append({"step": step, "seconds": seconds, **measured})
        formatted = ({name: f"{value:.10g}" for name, value in row.items()} for row in self.rows)
        write_table(self.path / "metrics.csv", self.rows[-1], formatted)

    def plot(self, baselines: dict[str, float], ylabel: str, title: str) -> None:
        """Draws the losses of metrics.csv into curves.png, baselines as horizontal lines."""
        plot_curves(self.path / "curves.png", self.rows, baselines, ylabel, title)

    @property
    def best(self) -> dict[str, Any]:
        """The row of metrics.csv that belongs to the best checkpoint."""
        return next(row for row in self.rows if row["step"] == self.checkpoints.best_step)

    @property
    def last(self) -> dict[str, Any]:
        """The last row of metrics.csv."""
        return self.rows[-1]

    @property
    def curves(self) -> str:
        """The paths of the curves and of their numbers."""
        return f"{self.path / 'curves.png'}, {self.path / 'metrics.csv'}"

    def command(self, *options: str) -> str:
        """Returns the command that calls this script on this run again."""
        python = min(sys.executable, os.path.relpath(sys.executable), key=len)
        return shlex.join([python, os.path.relpath(sys.argv[0]), "--run-dir", str(self.path), *options])


def saved_options(kind: type[SavedOptions], run_dir: Path) -> Any:
    """Reads the options that a run has saved."""
    fields = dataclasses.fields(kind)
    saved = read_config(run_dir)["config"]
    options: dict[str, Any] = {name: tuple(v) if isinstance(v, list) else v for name, v in saved.items()}
    if options.keys() != {field.name for field in fields}:
        raise BadInputError(f"the run in {run_dir} was made by another version of this script")
    paths = {f.name: Path(options[f.name]) for f in fields if "Path" in str(f.type) and options[f.name]}
    return kind(**options | paths)


def refuse_differences(run_dir: Path, saved: dict[str, Any], given: dict[str, Any]) -> None:
    differences = [
        f"{name} is {saved[name]!s} there and {given[name]!s} here" for name in given if saved[name] != given[name]
    ]
    if differences:
        raise BadInputError(f"the run in {run_dir} has another configuration: {'; '.join(differences)}")


def read_config(run_dir: Path) -> dict[str, Any]:
    try:
        return json.loads((run_dir / "config.json").read_text())
    except (OSError, ValueError):
        raise BadInputError(f"{run_dir} holds no run") from None


def try_writing(path: Path) -> None:
    try:
        path.mkdir(parents=True, exist_ok=True)
        (path / "config.json.unfinished").touch()
        (path / "config.json.unfinished").unlink()
    except OSError as error:
        raise BadInputError(f"cannot write to {path}: {error.strerror}") from None
