"""Calling experiments within the process of a test."""

from __future__ import annotations

import csv
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from support.command_line import launch
from support.run import Run

EXPERIMENTS = Path(__file__).parents[2] / "experiments"


def call_script(monkeypatch: Any, name: str, options: tuple[str, ...], experiment: Callable, *groups: type) -> int:
    """Calls an experiment as its script would, and returns the exit code."""
    monkeypatch.setattr(sys, "argv", [name, *options])
    try:
        launch(experiment, *groups)
    except SystemExit as end:
        return end.code
    return 0


def read_metrics(run_dir: str | Path) -> list[dict[str, str]]:
    """The rows of metrics.csv; none if there is no file."""
    path = Path(run_dir, "metrics.csv")
    return list(csv.DictReader(path.read_text().splitlines())) if path.exists() else []


def stop_after(monkeypatch: Any, step: int) -> None:
    """Interrupts runs when they have recorded this step, as two presses of Ctrl-C do. `monkeypatch.undo` ends that."""
    record = Run.record

    def stop(self: Run, now: int, *arguments: Any, **measured: float) -> None:
        record(self, now, *arguments, **measured)
        if now >= step:
            raise KeyboardInterrupt

    monkeypatch.setattr(Run, "record", stop)


def error_line(capsys: Any) -> str:
    """What a script has printed on an error: one line on stderr."""
    out, err = capsys.readouterr()
    assert not out
    (line,) = err.splitlines()
    assert line.startswith("error: ")
    return line
