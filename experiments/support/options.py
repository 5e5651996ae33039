"""Groups of command-line options: those that a run saves, those of a single call, and checks of numbers."""

from __future__ import annotations

import dataclasses
import math
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, ClassVar, Literal, TypeVar

import tyro

from support.errors import BadInputError

LARGEST = 2**31 - 1  # integer
Devices = Literal["auto", "one", "all"]
T = TypeVar("T")
Several = Annotated[tuple[T, ...], tyro.conf.arg(help_behavior_hint="")]  # comments explain the defaults


@dataclass(frozen=True)
class OptionGroup:
    """A group of options: a frozen dataclass, where the comment beside a field is its text in --help."""

    alternatives: ClassVar[tuple[str, ...]] = ()  # options of which only the first that is not None has an effect
    generators: ClassVar[tuple[str, ...]] = ()  # options of generated data, which have no effect with --data
    other_cells: ClassVar[tuple[str, ...]] = ()  # names that --cell accepts in addition to the cells of jaxrnn

    def check(self) -> None:
        """Raises `BadInputError` if a value cannot be used."""

    def check_given(self, names: frozenset[str]) -> None:
        """Raises `BadInputError` if an option named on the command line would have no effect."""
        chosen = [name for name in self.alternatives if getattr(self, name) is not None][:1]
        for name in self.alternatives:
            if name in names and name not in chosen:
                value = getattr(self, chosen[0])
                raise BadInputError(f"{option(name)} has no effect, because {option(chosen[0])} is {value}: give one")
        for name in self.generators:
            if name in names and getattr(self, "data", None) is not None:
                raise BadInputError(f"{option(name)} has no effect with --data: give one of them")

    @property
    def continues_run(self) -> bool:
        """Whether the script continues an existing run, with its saved options."""
        return False


@dataclass(frozen=True)
class SavedOptions(OptionGroup):
    """Options that determine a run. They are saved in its config.json.

    With --resume, only those in `limits` and `layout` may change.
    """

    limits: ClassVar[tuple[str, ...]] = ()  # options that end the run, so that it can be trained further
    layout: ClassVar[tuple[str, ...]] = ()  # options that choose devices, and do not change the results


@dataclass(frozen=True)
class RunOptions(SavedOptions):
    """Options of every training script, which adds its own in a subclass."""

    minutes: float = 4.0  # Time limit of the run in minutes, start-up included
    steps: int | None = None  # Number of training steps, instead of --minutes
    seed: int = 0  # Random seed
    alternatives: ClassVar[tuple[str, ...]] = ("steps", "minutes")
    limits: ClassVar[tuple[str, ...]] = alternatives

    @property
    def limit_set(self) -> tuple[str, float]:
        """The name and the value of the limit that ends the run."""
        return next((name, getattr(self, name)) for name in self.limits if getattr(self, name) is not None)

    @property
    def limit(self) -> tuple[int | None, float]:
        """The end of the run: a number of training steps, or if that is None, minutes."""
        return self.steps, self.minutes

    def check(self) -> None:
        at_least(0, seed=self.seed)
        above(0, minutes=self.minutes)
        if self.steps is not None:
            at_least(1, steps=self.steps)


@dataclass(frozen=True)
class RunFolder(OptionGroup):
    """The directory of the run."""

    run_dir: Path | None = None  # Directory of the run. None: a new numbered folder in runs/<script>
    resume: bool = False  # Resume the run in --run-dir (None: the newest run) where it stopped
    started: tyro.conf.Suppress[float] = dataclasses.field(default_factory=time.perf_counter)  # set by `launch`

    @property
    def continues_run(self) -> bool:
        return self.resume

    @property
    def parent(self) -> Path:
        """The folder of this script's numbered runs."""
        return Path("runs", Path(sys.argv[0]).stem)

    @property
    def existing(self) -> Path:
        """The directory of a run that exists."""
        if self.run_dir is not None:
            return self.run_dir
        runs = numbered_folders(self.parent)
        if not runs:
            raise BadInputError(f"there is no run in {self.parent} yet: name one with --run-dir")
        return runs[-1]

    @property
    def new(self) -> Path:
        """A directory for a new run, empty or not yet created."""
        path = self.run_dir
        if path is None:
            numbers = [int(folder.name) for folder in numbered_folders(self.parent)]
            path = self.parent / str(max(numbers, default=0) + 1)
        if (path / "config.json").exists():
            raise BadInputError(f"{path} holds a run: resume it with --resume, or name another --run-dir")
        if path.is_dir() and any(path.iterdir()):
            raise BadInputError(f"{path} holds other files: name a --run-dir that is empty or does not exist")
        return path


@dataclass(frozen=True)
class Cluster(OptionGroup):
    """Several processes that train one model together."""

    coordinator: str | None = None  # HOST:PORT of process 0. None: found under SLURM, Open MPI or Kubernetes
    process: int | None = None  # Number of this process, from 0. Process 0 prints and plots
    processes: int | None = None  # Number of processes
    connect_seconds: int = 60  # Time in seconds that the processes have to connect to each other

    def check(self) -> None:
        at_least(1, connect_seconds=self.connect_seconds)
        given = {name: getattr(self, name) for name in ("coordinator", "process", "processes")}
        missing = [option(name) for name, value in given.items() if value is None]
        if 0 < len(missing) < len(given):
            raise BadInputError(
                f"--coordinator, --process and --processes must be given together, but {', '.join(missing)} is missing"
            )
        if self.coordinator is None or self.process is None or self.processes is None:
            return
        host, _, port = self.coordinator.rpartition(":")
        if not host or not port.isdecimal() or not 0 < int(port) < 2**16:
            raise BadInputError(
                f"--coordinator must be HOST:PORT, the address of process 0, but it is {self.coordinator!r}"
            )
        at_least(1, processes=self.processes)
        if not 0 <= self.process < self.processes:
            raise BadInputError(
                f"--process must be from 0 to {self.processes - 1}, because --processes is {self.processes}, but it is"
                f" {self.process}"
            )


def numbered_folders(parent: Path) -> list[Path]:
    found = [path for path in parent.glob("*") if path.name.isdecimal()] if parent.is_dir() else []
    return sorted(found, key=lambda path: int(path.name))


def option(name: str) -> str:
    return "--" + name.replace("_", "-")


def at_least(bound: float, **numbers: float) -> None:
    for name, number in numbers.items():
        if not bound <= number < math.inf:
            raise BadInputError(f"{option(name)} must be at least {bound}, but it is {number}")
        representable(name, number)


def above(bound: float, **numbers: float) -> None:
    for name, number in numbers.items():
        if not bound < number < math.inf:
            raise BadInputError(f"{option(name)} must be above {bound} and finite, but it is {number}")
        representable(name, number)


def representable(name: str, number: float) -> None:
    """Checks that an integer fits in an int32. JAX would wrap larger seeds and steps around without an error."""
    if isinstance(number, int) and number > LARGEST:
        raise BadInputError(f"{option(name)} must be at most {LARGEST}, but it is {number}")


def rate(**numbers: float) -> None:
    """Checks a dropout rate."""
    for name, number in numbers.items():
        if not 0 <= number < 1:
            raise BadInputError(f"{option(name)} must be from 0 to below 1, but it is {number}")
