"""Checkpoints of a run."""

from __future__ import annotations

import hashlib
import json
import logging
import math
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp

from support.errors import BadInputError
from support.options import numbered_folders

SUMS = "SHA256SUMS"  # in the format of `sha256sum`


@dataclass(frozen=True)
class Score:
    """What a checkpoint holds beside the pytree: its loss, and the rows of metrics.csv so far."""

    loss: float
    rows: list[dict[str, float]]


class Checkpoints:
    """The two latest checkpoints of a run and the best one, each complete or absent.

    `<name>/<step>` has the pytree in Orbax' format, the loss and the rows of metrics.csv, a copy of the run's
    config.json, and the checksums of all these files. A checkpoint that differs from its checksums is never loaded: the
    best or the latest of the others takes its place.

    Args:
      run_dir: The directory of the run. Nothing is written to it before the first `save`.
      name: The folder in it, if it is not the one that training resumes from.
    """

    def __init__(self, run_dir: Path, name: str = "checkpoints"):
        logging.getLogger("absl").setLevel(logging.CRITICAL)  # Orbax logs every step it takes
        self.path = run_dir / name
        self._config = run_dir / "config.json"
        self._sound: dict[int, Score] = {}
        self.damaged: dict[int, str] = {}  # by step: what is wrong
        for step in (int(folder.name) for folder in numbered_folders(self.path)):
            try:
                check_sums(self._of(step))
                self._sound[step] = Score(**json.loads((self._of(step) / "metrics.json").read_text()))
            except (OSError, ValueError, TypeError) as error:
                self.damaged[step] = str(error)

    @property
    def step(self) -> int | None:
        """The step of the latest checkpoint that is not damaged."""
        return max(self._sound, default=None)

    @property
    def best_step(self) -> int | None:
        """The step of the checkpoint with the lowest loss, the later one if there are two."""
        return min(self._sound, key=lambda step: (self._sound[step].loss, -step), default=None)

    @property
    def rows(self) -> list[dict[str, float]]:
        """The rows of metrics.csv up to the latest checkpoint."""
        return [] if self.step is None else self._sound[self.step].rows

    @property
    def damage(self) -> str:
        """A line about damaged checkpoints and those used instead; empty if there are none."""
        if not self.damaged:
            return ""
        each = ", ".join(f"{step} ({reason})" for step, reason in self.damaged.items())
        others = f"the latest good one is {self.step}, the best good one {self.best_step}"
        return f"damaged checkpoints in {self.path}: {each}; {others if self._sound else 'there is no other'}"

    def latest(self, like: Any) -> Any:
        """Returns the latest checkpoint, in the structure of `like`."""
        return self._restore(self.step, like)

    def best(self, like: Any) -> Any:
        """Returns the checkpoint with the lowest loss, in the structure of `like`."""
        return self._restore(self.best_step, like)

    def save(self, step: int, tree: Any, loss: float = math.inf, rows: list[dict[str, float]] | None = None) -> None:
        """Saves a pytree and the rows of metrics.csv so far. The checkpoint with the lowest `loss` is the best one.

        Raises:
          OSError: It cannot be written. The checkpoints before are still there.
        """
        if step in self._sound:
            return
        score = Score(loss, rows or [])
        unfinished = self.path / f"{step}.unfinished"
        try:
            for rest in self.path.glob("*.unfinished"):  # left by a process that was killed
                shutil.rmtree(rest)
            unfinished.mkdir(parents=True)
            on_host = jax.device_get(tree)  # the run may be resumed, and its model used, on other devices
            check_space(unfinished, sum(np.asarray(leaf).nbytes for leaf in jax.tree.leaves(on_host)))
            ocp.Checkpointer(ocp.StandardCheckpointHandler()).save(
                (unfinished / "state").absolute(), args=ocp.args.StandardSave(on_host)
            )
            (unfinished / "metrics.json").write_text(json.dumps(vars(score)))
            shutil.copyfile(self._config, unfinished / "config.json")
            (unfinished / SUMS).write_text(sums_of(unfinished))
            for damaged in list(self.damaged):  # kept, but out of the way
                shutil.rmtree(self.path / f"{damaged}.damaged", ignore_errors=True)
                self._of(damaged).rename(self.path / f"{damaged}.damaged")
                del self.damaged[damaged]
            unfinished.rename(self._of(step))
        except Exception as error:  # Orbax raises various errors, for example a ValueError for a full disk
            shutil.rmtree(unfinished, ignore_errors=True)
            raise OSError(getattr(error, "errno", None) or 0, reason(error), str(self._of(step))) from error
        self._sound[step] = score
        for old in set(sorted(self._sound)[:-2]) - {self.best_step}:
            del self._sound[old]
            shutil.rmtree(self._of(old).rename(self.path / f"{old}.unfinished"))

    def _of(self, step: int) -> Path:
        return self.path / str(step)

    def _restore(self, step: int | None, like: Any) -> Any:
        if step is None:
            raise BadInputError(f"there is no checkpoint in {self.path}")
        state = (self._of(step) / "state").absolute()
        try:
            return ocp.Checkpointer(ocp.StandardCheckpointHandler()).restore(state, args=ocp.args.StandardRestore(like))
        except Exception as error:  # Orbax raises various errors for a pytree of another structure
            raise BadInputError(f"cannot restore checkpoint {step} in {self.path}: {reason(error)}") from error


def check_space(folder: Path, size: int) -> None:
    """Raises an OSError if a file of some bytes cannot be written, before Orbax fails in many threads at once."""
    if hasattr(os, "posix_fallocate"):
        path = folder / "space"
        with path.open("wb") as file:
            os.posix_fallocate(file.fileno(), 0, size + 2**16)
        path.unlink()


def files_in(folder: Path) -> list[Path]:
    return [path for path in sorted(folder.rglob("*")) if path.is_file() and path.name != SUMS]


def sums_of(folder: Path) -> str:
    """Returns the SHA-256 checksums of all files in a folder, as `sha256sum` prints them."""
    digests = {path.relative_to(folder): hashlib.sha256(path.read_bytes()).hexdigest() for path in files_in(folder)}
    return "".join(f"{digest}  {name.as_posix()}\n" for name, digest in digests.items())


def check_sums(folder: Path) -> None:
    """Raises a ValueError or an OSError if the files in a folder are not those of its checksums."""
    sums = folder / SUMS
    if not sums.exists():
        raise ValueError(f"it has no {SUMS}")
    expected, found = sums.read_bytes().splitlines(), sums_of(folder).encode().splitlines()
    if expected != found:
        names = sorted({line[66:].decode(errors="replace") for line in {*expected} ^ {*found}})
        raise ValueError(f"{names[0] if names else SUMS} differs from {SUMS}")


def reason(error: BaseException) -> str:
    """Returns an error's cause in one line."""
    text = getattr(error, "strerror", None) or str(error) or type(error).__name__
    for known in ("No space left on device", "File too large", "Disk quota exceeded", "Read-only file system"):
        if known in text:
            return known
    return text.strip().splitlines()[0]
