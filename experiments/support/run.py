"""The run directory of an experiment: its options, its metrics, their curves, and its checkpoints."""

from __future__ import annotations

import csv
import inspect
import io
import json
import logging
import math
import os
import platform
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jax
import matplotlib
import orbax.checkpoint as ocp
from orbax.checkpoint.checkpoint_managers import AnyPreservationPolicy, BestN, LatestN

import jaxrnn

matplotlib.use("Agg")
import matplotlib.pyplot as plt

if TYPE_CHECKING:
    from common import Config

logging.getLogger("absl").setLevel(logging.ERROR)  # Orbax tells of every step it takes


class BadInputError(Exception):
    """What the person gave cannot be used. Its message is one line that says why."""


def saved_config(kind: Any, run_dir: Path) -> Any:
    saved: dict[str, Any] = read_run(run_dir)["config"]
    options: dict[str, Any] = {name: tuple(v) if isinstance(v, list) else v for name, v in saved.items()}
    if options.keys() != {field.name for field in kind.run_fields()}:
        raise BadInputError(f"the run in {run_dir} was made by another version of this script")
    paths = {f.name: Path(options[f.name]) for f in kind.run_fields() if "Path" in str(f.type) and options[f.name]}
    return kind(**{**options, **paths, "run_dir": run_dir})


def refuse_differences(run_dir: Path, there: dict[str, Any], here: dict[str, Any]) -> None:
    differing = [
        f"{name} is {there[name]!s} there and {here[name]!s} here" for name in here if there[name] != here[name]
    ]
    if differing:
        raise BadInputError(f"the run in {run_dir} has another configuration: {'; '.join(differing)}")


def existing_run_dir(config: Config) -> Path:
    if config.run_dir is not None:
        return config.run_dir
    runs = numbered(default_parent(config))
    if not runs:
        raise BadInputError(f"there is no run in {default_parent(config)} yet: name one with --run-dir")
    return runs[-1]


def default_parent(config: Config) -> Path:
    return Path("runs", Path(inspect.getfile(type(config))).stem)


def numbered(parent: Path) -> list[Path]:
    found = [path for path in parent.glob("*") if path.name.isdecimal()] if parent.is_dir() else []
    return sorted(found, key=lambda path: int(path.name))


def new_run_dir(config: Config) -> Path:
    path = config.run_dir
    if path is None:
        parent = default_parent(config)
        path = parent / str(max((int(p.name) for p in numbered(parent)), default=0) + 1)
    if (path / "config.json").exists():
        raise BadInputError(f"{path} holds a run: go on with it by --resume, or name another --run-dir")
    if path.is_dir() and any(path.iterdir()):
        raise BadInputError(f"{path} holds other files: name a --run-dir that is empty or not there yet")
    return path


def try_writing(path: Path) -> None:
    try:
        path.mkdir(parents=True, exist_ok=True)
        (path / "config.json.unfinished").touch()
        (path / "config.json.unfinished").unlink()
    except OSError as error:
        raise BadInputError(f"cannot write to {path}: {error.strerror}") from None


def read_run(run_dir: Path) -> dict[str, Any]:
    try:
        return json.loads((run_dir / "config.json").read_text())
    except (OSError, ValueError):
        raise BadInputError(f"{run_dir} holds no run") from None


def write(path: Path, text: str) -> None:
    """Writes a file so that it is there whole or as it was."""
    unfinished = path.with_name(path.name + ".unfinished")
    unfinished.write_text(text)
    os.replace(unfinished, path)


class Run:
    """A run directory: config.json, metrics.csv, curves.png and checkpoints/ (the latest and the best).

    Args:
      config: the options; those of the run are saved.
      facts: what else makes the run what it is, such as its data's hash; on resuming they must be the same.
      notes: what else to keep in config.json.
    """

    def __init__(self, config: Config, facts: dict[str, Any], notes: dict[str, Any] | None = None):
        if config.resume:
            self.path = existing_run_dir(config)
            refuse_differences(self.path, read_run(self.path)["facts"], facts)
        else:
            self.path = new_run_dir(config)
        try_writing(self.path)
        self.checkpoints = Checkpoints(self.path)
        self.rows: list[dict[str, Any]] = []  # of metrics.csv
        if not config.resume:
            options = {field.name: getattr(config, field.name) for field in config.run_fields()}
            versions = {"python": platform.python_version(), "jax": jax.__version__, "jaxrnn": jaxrnn.__version__}
            made = {"config": options, "facts": facts, "notes": notes, "versions": versions}
            write(self.path / "config.json", json.dumps(made, indent=2, default=str))
        elif (self.path / "metrics.csv").exists():
            with (self.path / "metrics.csv").open(newline="") as file:
                rows = [{k: float(v) for k, v in row.items()} for row in csv.DictReader(file)]
            self.rows = [row for row in rows if row["step"] <= (self.checkpoints.step or 0)]

    def record(self, step: int, seconds: float, **measured: float) -> None:
        """Adds a row to metrics.csv."""
        self.rows.append({"step": step, "seconds": seconds, **measured})
        text = io.StringIO()
        table = csv.DictWriter(text, self.rows[-1], lineterminator="\n")
        table.writeheader()
        table.writerows({name: f"{value:.10g}" for name, value in row.items()} for row in self.rows)
        write(self.path / "metrics.csv", text.getvalue())

    def plot(self, baselines: dict[str, float], ylabel: str, title: str) -> None:
        """Draws the losses of metrics.csv against the step, members' thin, and baselines as horizontal lines."""
        curves = [name for name in self.rows[-1] if name.endswith("_loss")]
        figure, axes = plt.subplots(figsize=(7, 4.2), layout="constrained")
        steps = [row["step"] for row in self.rows]
        for name, colour in zip(curves, ("#9aa5b1", "#1f5fa8", "#3a923a"), strict=False):
            label = f"{name.replace('_loss', '').replace('valid', 'validation')}, last {self.rows[-1][name]:.3f}"
            axes.plot(steps, [row[name] for row in self.rows], color=colour, marker=".", linewidth=1.8, label=label)
        members = [name for name in self.rows[-1] if name.startswith("member_")]
        for name in members:
            axes.plot(steps, [row[name] for row in self.rows], color="#1f5fa8", linewidth=0.6, alpha=0.6)
        if members:
            all_of = [[row[name] for name in members] for row in self.rows]
            axes.fill_between(steps, [*map(min, all_of)], [*map(max, all_of)], color="#1f5fa8", alpha=0.12, linewidth=0)
        for name, value in baselines.items():
            axes.axhline(value, color="#c1440e", linestyle="--", linewidth=1.3, label=f"{name}, {value:.3f}")
        axes.set(xlabel="update", ylabel=ylabel, title=title)
        axes.grid(alpha=0.25)
        axes.spines[["top", "right"]].set_visible(False)
        axes.legend(frameon=False)
        unfinished = self.path / "curves.unfinished.png"
        figure.savefig(unfinished, dpi=160)
        plt.close(figure)
        os.replace(unfinished, self.path / "curves.png")

    @property
    def best(self) -> dict[str, Any]:
        """The row of the best checkpoint."""
        return next(row for row in self.rows if row["step"] == self.checkpoints.best_step)

    def kept(self) -> str:
        """What is left where a run has gone wrong."""
        return f"the last good checkpoint, after update {self.checkpoints.step}, is kept in {self.path / 'checkpoints'}"

    def command(self, *options: str) -> str:
        """The command that goes on with this run."""
        python = min(sys.executable, os.path.relpath(sys.executable), key=len)
        return shlex.join([python, os.path.relpath(sys.argv[0]), "--run-dir", str(self.path), *options])


class Checkpoints:
    """The latest checkpoint and the best, each there whole or not at all."""

    def __init__(self, run_dir: Path):
        keep = AnyPreservationPolicy(
            [LatestN(1), BestN(get_metric_fn=lambda metrics: metrics["loss"], reverse=True, n=1)]
        )
        options = ocp.CheckpointManagerOptions(
            preservation_policy=keep,
            best_fn=lambda metrics: metrics["loss"],
            best_mode="min",
            enable_async_checkpointing=False,
        )
        self._manager = ocp.CheckpointManager((run_dir / "checkpoints").absolute(), options=options)

    @property
    def step(self) -> int | None:
        return self._manager.latest_step()

    @property
    def best_step(self) -> int | None:
        return self._manager.best_step()

    def latest(self, like: Any) -> Any:
        """The latest checkpoint, of a structure like the one given."""
        return self._restore(self.step, like)

    def best(self, like: Any) -> Any:
        """The checkpoint of the smallest loss."""
        return self._restore(self.best_step, like)

    def save(self, step: int, tree: Any, loss: float = math.inf) -> None:
        """Saves a pytree. `loss` says which checkpoint is the best; without one it is none."""
        if step != self.step:
            on_host = jax.device_get(tree)  # for a run may go on, and its model be used, on other devices
            self._manager.save(step, args=ocp.args.StandardSave(on_host), metrics={"loss": loss})

    def _restore(self, step: int | None, like: Any) -> Any:
        if step is None:
            raise BadInputError(f"there is no checkpoint in {self._manager.directory}")
        return self._manager.restore(step, args=ocp.args.StandardRestore(like))
