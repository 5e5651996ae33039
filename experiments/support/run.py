"""The run directory of an experiment: its options, metrics, curves and checkpoints."""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import hashlib
import json
import math
import os
import platform
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import jax

import jaxrnn
from support.checkpoints import Checkpoints
from support.distributed import agree, exchange, in_first, is_first
from support.errors import BadInputError
from support.files import write_table, write_whole
from support.options import RunFolder, RunOptions, SavedOptions, numbered_folders, option
from support.plots import plot_curves

try:
    import fcntl
except ImportError:  # not on Windows, where runs are not locked
    fcntl = None


class Run:
    """A run directory: config.json, metrics.csv, curves.png and checkpoints/ (the two latest and the best).

    A lock ensures that a run is trained only once at a time. Several processes that train it together (see
    `distributed`) must make the same calls, on a file system that they share; the first one writes the files. Damaged
    checkpoints are reported and not used.

    Args:
      folder: The directory, and whether to resume the run in it.
      options: The options to save.
      facts: Other values that determine the run, such as the hash of its data. They must not change on resuming.
      notes: Further values to save in config.json.
    """

    def __init__(
        self, folder: RunFolder, options: SavedOptions, facts: dict[str, Any], notes: dict[str, Any] | None = None
    ):
        self.started = folder.started
        agree("data", facts)
        config, path = in_first(lambda: self._claim(folder, facts, notes))
        if not is_first():
            self.path = Path(path)
        visible = exchange((self.path / "checkpoints" / "lock").exists())
        if not all(visible):
            raise BadInputError(
                f"process {visible.index(False)} cannot find {path}, the directory of the run: it must be on a file"
                " system that all processes share"
            )
        self._load()
        if isinstance(options, RunOptions) and folder.resume:
            check_limit(self, saved_options(type(options), self.path), options)
        saved = {field.name: getattr(options, field.name) for field in dataclasses.fields(options)}
        exchange(None)  # all have read the old configuration
        if is_first():
            write_config(self.path, {**config, "config": saved})

    def _claim(
        self, folder: RunFolder, facts: dict[str, Any], notes: dict[str, Any] | None
    ) -> tuple[dict[str, Any], str]:
        """Finds or creates the directory, locks it, and returns its configuration and path."""
        if folder.resume:
            self.path = folder.existing
            config = read_config(self.path)
            refuse_differences(self.path, config["facts"], facts)
            self._lock = lock(self.path)
        else:
            self.path, self._lock = create(folder)
            versions = {"python": platform.python_version(), "jax": jax.__version__, "jaxrnn": jaxrnn.__version__}
            config = {"facts": facts, "notes": notes, "versions": versions}
        return config, str(self.path.absolute())

    @classmethod
    def open(cls, run_dir: Path, facts: dict[str, Any] | None = None) -> Run:
        """Opens an existing run for reading. If `facts` are given, they must be those of the run."""
        refuse_differences(run_dir, read_config(run_dir)["facts"], facts or {})
        run = cls.__new__(cls)
        run.path = run_dir
        run._load()
        return run

    def _load(self) -> None:
        self.checkpoints = self.open_checkpoints()
        self.rows = list(self.checkpoints.rows)  # of metrics.csv

    def open_checkpoints(self, name: str = "checkpoints") -> Checkpoints:
        """Opens the checkpoints in a folder of the run. Prints a line if some of them are damaged."""
        checkpoints = Checkpoints(self.path, name)
        if checkpoints.damage and checkpoints.step is None:
            raise BadInputError(checkpoints.damage)
        if checkpoints.damage and is_first():
            print(checkpoints.damage, file=sys.stderr)
        return checkpoints

    @property
    def seconds(self) -> float:
        """The training time up to the last row of metrics.csv."""
        return self.rows[-1]["seconds"] if self.rows else 0.0

    def record(self, step: int, seconds: float, train: Any, score: float, **measured: float) -> None:
        """Saves a checkpoint, the best one if its score is the lowest, and adds a row to metrics.csv."""
        self.rows.append({"step": step, "seconds": seconds, **measured})
        self.save(step, (train, seconds), score)
        if not is_first():
            return
        with self._writing():
            formatted = ({name: f"{value:.10g}" for name, value in row.items()} for row in self.rows)
            write_table(self.path / "metrics.csv", self.rows[-1], formatted)

    def save(self, step: int, tree: Any, score: float = math.inf, to: Checkpoints | None = None) -> None:
        """Saves a checkpoint, by default one to resume from, else `to` other checkpoints."""
        with self._writing():
            (self.checkpoints if to is None else to).save(step, tree, score, self.rows)

    @contextlib.contextmanager
    def _writing(self) -> Iterator[None]:
        """Turns errors of writing, such as a full disk, into one line that contains the command to resume."""
        try:
            yield
        except OSError as error:
            kept = "" if self.checkpoints.step is None else f"the last checkpoint is of step {self.checkpoints.step}; "
            resume = f"resume with: {self.command('--resume')}"
            raise BadInputError(f"cannot write {error.filename}: {error.strerror}; {kept}{resume}") from None

    def plot(self, baselines: dict[str, float], ylabel: str, title: str) -> None:
        """Draws the losses of metrics.csv into curves.png, baselines as horizontal lines."""
        if not is_first():
            return
        with self._writing():
            plot_curves(self.path / "curves.png", self.rows, baselines, ylabel, title)

    @property
    def best(self) -> dict[str, Any]:
        """The row of metrics.csv that belongs to the best checkpoint."""
        rows = [row for row in self.rows if row["step"] == self.checkpoints.best_step]
        if not rows:
            raise BadInputError(f"the run in {self.path} was not measured yet: train it first, with --resume")
        return rows[0]

    @property
    def last(self) -> dict[str, Any]:
        """The last row of metrics.csv."""
        return self.rows[-1]

    @property
    def curves(self) -> str:
        """The paths of the curves and of their numbers."""
        return f"{self.path / 'curves.png'}, {self.path / 'metrics.csv'}"

    def command(self, *options: str) -> str:
        """Returns the command that starts this script again on this run."""
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
    """Reads config.json, and verifies its checksum."""
    path = run_dir / "config.json"
    copies = [folder / "config.json" for folder in numbered_folders(run_dir / "checkpoints")]
    if not path.exists() and not copies:
        raise BadInputError(f"{run_dir} holds no run")
    try:
        return parse_config(path)
    except ValueError:
        for copy in reversed(copies):
            with contextlib.suppress(OSError, ValueError):
                parse_config(copy)
                raise BadInputError(f"{path} is damaged: to repair it, copy {copy} over it") from None
        raise BadInputError(f"{path} is damaged, or was made by another version of this script") from None


def parse_config(path: Path) -> dict[str, Any]:
    """Reads a config.json. Raises a ValueError if it does not match its checksum."""
    try:
        config = json.loads(path.read_bytes())
        if config.pop("sha256") == digest_of(config):
            return config
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError, FileNotFoundError):
        pass  # not a config, or there is no file
    raise ValueError(f"{path} is damaged")


def write_config(run_dir: Path, config: dict[str, Any]) -> None:
    """Writes config.json with its checksum, unless it is there already."""
    config = json.loads(json.dumps(config, default=str))
    text = json.dumps({**config, "sha256": digest_of(config)}, indent=2)
    path = run_dir / "config.json"
    if not path.exists() or path.read_text() != text:
        write_whole(path, text)


def digest_of(config: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(config, sort_keys=True).encode()).hexdigest()


def check_limit(run: Run, saved: RunOptions, given: RunOptions) -> None:
    """Checks that a resumed run has not yet reached its limit, if the limit has changed."""
    name, limit = given.limit_set
    made = {"steps": run.checkpoints.step or 0, "minutes": run.seconds / 60}.get(name, getattr(saved, name) or 0)
    if given.limit_set != saved.limit_set and limit <= made:
        number = f"{made:.4g}" if isinstance(made, float) else made
        raise BadInputError(
            f"the run in {run.path} has made {number} {name}: to train it further, {option(name)} must be above that,"
            f" but it is {limit:.10g}"
        )


def create(folder: RunFolder) -> tuple[Path, IO[str]]:
    """Creates the directory of a new run, and locks it."""
    while True:
        path = folder.new
        try:
            path.mkdir(parents=True, exist_ok=folder.run_dir is not None)
            locked = lock(path)
        except FileExistsError:
            if folder.run_dir is not None:
                raise BadInputError(f"cannot write to {path}: a file has that name") from None
            continue  # another process has just taken this number
        except OSError as error:
            raise BadInputError(f"cannot write to {path}: {error.strerror}") from None
        if (path / "config.json").exists():  # written by a process that had the lock before
            raise BadInputError(f"{path} holds a run: resume it with --resume, or name another --run-dir")
        return path, locked


def lock(run_dir: Path) -> IO[str]:
    """Locks a run until this process ends.

    Raises:
      BadInputError: Another process trains the run, or the directory cannot be written to.
    """
    path = run_dir / "checkpoints" / "lock"
    try:
        path.parent.mkdir(exist_ok=True)
        file = path.open("a+")
    except OSError as error:
        raise BadInputError(f"cannot write to {run_dir}: {error.strerror}") from None
    try:
        if fcntl is not None:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
    except OSError as error:
        if error.errno not in (errno.EACCES, errno.EAGAIN):
            raise BadInputError(f"cannot write to {run_dir}: {error.strerror}") from None
        owner = path.read_text() or "unknown"
        raise BadInputError(f"the run in {run_dir} is being trained by another process, number {owner}") from None
    return file


def try_writing(path: Path) -> None:
    """Creates a directory, unless it exists, and checks that files can be written to it."""
    try:
        path.mkdir(parents=True, exist_ok=True)
        (path / "test.unfinished").touch()
        (path / "test.unfinished").unlink()
    except OSError as error:
        raise BadInputError(f"cannot write to {path}: {error.strerror}") from None
