"""Checkpoints of a run."""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import math
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp

from support.distributed import exchange, in_first, is_first
from support.errors import BadInputError
from support.options import numbered_folders

SUMS = "SHA256SUMS"  # in the format of `sha256sum`


@dataclass(frozen=True)
class Score:
    """The measurements that are saved with a checkpoint: its loss, and the rows of metrics.csv so far."""

    loss: float
    rows: list[dict[str, float]]


class Checkpoints:
    """The two latest checkpoints of a run and the best one. Each appears only when it is complete.

    The folder `<name>/<step>` contains the pytree in Orbax's format, the loss and the rows of metrics.csv, a copy of
    config.json, and the checksums of all these files. A checkpoint that does not match its checksums is never loaded;
    the latest, or the best, of the others is used instead.

    All processes of a run must make the same calls, on a file system that they share. The first one reads and writes
    everything except arrays.

    Args:
      run_dir: The directory of the run. Nothing is written to it before the first `save`.
      name: The folder of the checkpoints in it. Training resumes from the default one.
    """

    def __init__(self, run_dir: Path, name: str = "checkpoints"):
        logging.getLogger("absl").setLevel(logging.CRITICAL)  # Orbax logs every step it takes
        self.path = run_dir / name
        self._config = run_dir / "config.json"
        self._sound: dict[int, Score] = {}
        self.damaged: dict[int, str] = {}  # by step: what is wrong
        for step, (loss, rows, problem) in in_first(self._found):
            if problem:
                self.damaged[step] = problem
            else:
                self._sound[step] = Score(loss, rows)

    def _found(self) -> list[tuple[int, tuple[float, list[dict[str, float]], str]]]:
        """Returns the step of each checkpoint with its loss, its rows, and a message if it is damaged."""
        found = []
        for step in (int(folder.name) for folder in numbered_folders(self.path)):
            try:
                check_sums(self._of(step))
                score = Score(**json.loads((self._of(step) / "metrics.json").read_text()))
                found.append((step, (score.loss, score.rows, "")))
            except (OSError, ValueError, TypeError) as error:
                found.append((step, (math.inf, [], str(error))))
        return found

    @property
    def step(self) -> int | None:
        """The step of the latest checkpoint that is not damaged."""
        return max(self._sound, default=None)

    @property
    def best_step(self) -> int | None:
        """The step of the checkpoint with the lowest loss, the latest of several."""
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
        """Returns the latest checkpoint, which may have been saved by other processes on other devices.

        Each process reads all arrays into its memory, and copies its part to its devices.

        Args:
          like: A pytree of the same structure. Its leaves, arrays or `jax.ShapeDtypeStruct`, determine where the
            arrays are placed: for a JAX array or a shape with a sharding, on the same devices; for a shape without a
            sharding, on the default device of each process; for a NumPy array, in the memory of the host.
        """
        return self._restore(self.step, like)

    def best(self, like: Any) -> Any:
        """Returns the checkpoint with the lowest loss; see `latest`."""
        return self._restore(self.best_step, like)

    def save(self, step: int, tree: Any, loss: float = math.inf, rows: list[dict[str, float]] | None = None) -> None:
        """Saves a pytree and the rows of metrics.csv so far. The checkpoint with the lowest `loss` is the best one.

        All processes write the arrays that are split over their devices; the first one writes the others.

        Raises:
          OSError: The checkpoint cannot be written. Earlier checkpoints are kept. All processes raise this error.
        """
        if step in self._sound:
            return
        score = Score(loss, rows or [])
        unfinished = self.path / f"{step}.unfinished"
        try:
            arrays = jax.tree.map(to_save, tree)
            with together():
                if is_first():
                    self._begin(unfinished, size_of(arrays))
            with together():
                ocp.Checkpointer(ocp.StandardCheckpointHandler()).save(
                    (unfinished / "state").absolute(), args=ocp.args.StandardSave(arrays)
                )
            with together():
                if is_first():
                    self._finish(unfinished, step, score)
        except OSError as error:
            if is_first():
                shutil.rmtree(unfinished, ignore_errors=True)
            raise OSError(error.errno or 0, error.strerror, str(self._of(step))) from error
        self.damaged.clear()
        self._sound[step] = score
        with together():
            for old in set(sorted(self._sound)[:-2]) - {self.best_step}:
                del self._sound[old]
                if is_first():
                    shutil.rmtree(self._of(old).rename(self.path / f"{old}.unfinished"))

    def _begin(self, unfinished: Path, size: int) -> None:
        for rest in self.path.glob("*.unfinished"):  # left by a process that was killed
            shutil.rmtree(rest)
        unfinished.mkdir(parents=True)
        check_space(unfinished, size)

    def _finish(self, unfinished: Path, step: int, score: Score) -> None:
        (unfinished / "metrics.json").write_text(json.dumps(vars(score)))
        shutil.copyfile(self._config, unfinished / "config.json")
        (unfinished / SUMS).write_text(sums_of(unfinished))
        for damaged in filter(lambda step: self._of(step).exists(), self.damaged):  # kept under another name
            shutil.rmtree(self.path / f"{damaged}.damaged", ignore_errors=True)
            self._of(damaged).rename(self.path / f"{damaged}.damaged")
        unfinished.rename(self._of(step))

    def _of(self, step: int) -> Path:
        return self.path / str(step)

    def _restore(self, step: int | None, like: Any) -> Any:
        if step is None:
            raise BadInputError(f"there is no checkpoint in {self.path}")
        state = (self._of(step) / "state").absolute()
        on_host = jax.tree.map(host_array_like, like)  # the devices of the saved arrays may not exist here
        try:
            saved = ocp.Checkpointer(ocp.StandardCheckpointHandler()).restore(
                state, args=ocp.args.StandardRestore(on_host)
            )
        except Exception as error:  # Orbax raises various errors for a pytree of another structure
            raise BadInputError(f"cannot restore checkpoint {step} in {self.path}: {reason(error)}") from error
        return jax.tree.map(put_like, saved, like)


@contextlib.contextmanager
def together() -> Iterator[None]:
    """Runs a part of saving, and waits for all processes. If one of them raises an error, all do."""
    error = None
    try:
        yield
    except Exception as raised:  # Orbax raises various errors, for example a ValueError for a full disk
        error = raised
    outcomes = exchange(None if error is None else (getattr(error, "errno", None) or 0, reason(error)))
    for number, text in filter(None, outcomes):
        raise OSError(number, text) from error


def size_of(tree: Any) -> int:
    """Returns the size of all arrays in bytes, including parts that other processes hold."""
    arrays = [leaf for leaf in jax.tree.leaves(tree) if hasattr(leaf, "dtype")]
    return sum(np.dtype(leaf.dtype).itemsize * leaf.size for leaf in arrays)


def to_save(leaf: Any) -> Any:
    """Returns what Orbax should save: arrays that several processes share as they are, others as NumPy arrays.

    Orbax does not save empty arrays: a single zero is saved instead.
    """
    if is_empty(leaf):
        return np.zeros(1, leaf.dtype)
    return leaf if isinstance(leaf, jax.Array) and not leaf.is_fully_addressable else jax.device_get(leaf)


def host_array_like(leaf: Any) -> Any:
    """Returns a NumPy array with the shape and dtype of `leaf`, without allocating it. Returns numbers unchanged."""
    if is_empty(leaf):
        return np.zeros(1, leaf.dtype)
    return np.broadcast_to(np.zeros((), leaf.dtype), leaf.shape) if hasattr(leaf, "dtype") else leaf


def is_empty(leaf: Any) -> bool:
    return hasattr(leaf, "dtype") and leaf.size == 0


def put_like(value: Any, like: Any) -> Any:
    """Places an array, which all processes have, on the devices of another one."""
    if is_empty(like):
        value = np.zeros(like.shape, like.dtype)
    if not isinstance(like, (jax.Array, jax.ShapeDtypeStruct)):
        return value
    if like.sharding is None:
        return jnp.asarray(value)
    return jax.make_array_from_callback(like.shape, like.sharding, lambda part: value[part])


def check_space(folder: Path, size: int) -> None:
    """Raises an OSError if there is no space for `size` bytes, before Orbax fails in many threads at once."""
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
    """Raises a ValueError or an OSError if the files in a folder do not match its checksums."""
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
