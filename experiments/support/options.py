"""Options of a script: those that a run saves, those of a single call, and checks of numbers."""

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

Devices = Literal["auto", "one", "all"]
T = TypeVar("T")
Several = Annotated[tuple[T, ...], tyro.conf.arg(help_behavior_hint="")]  # comments explain the defaults


@dataclass(frozen=True)
class OptionGroup:
    """Options that belong together: a frozen dataclass, each field with a comment for --help."""

    alternatives: ClassVar[tuple[str, ...]] = ()  # options of which only the first that is not None has an effect
    other_cells: ClassVar[tuple[str, ...]] = ()  # names that --cell accepts beside the cells of jaxrnn

    def check(self) -> None:
        """Raises `BadInputError` if a value cannot be used."""

    def check_given(self, names: frozenset[str]) -> None:
        """Raises `BadInputError` if an option named on the command line would have no effect."""
        chosen = [name for name in self.alternatives if getattr(self, name) is not None][:1]
        for name in self.alternatives:
            if name in names and name not in chosen:
                value = getattr(self, chosen[0])
                raise BadInputError(f"{option(name)} has no effect, because {option(chosen[0])} is {value}: give one")

    @property
    def continues_run(self) -> bool:
        """Whether these options ask for an existing run, whose own options then apply."""
        return False


@dataclass(frozen=True)
class SavedOptions(OptionGroup):
    """Options that determine a run. They are saved in its config.json and must not differ on --resume.

    Only `limits` may differ.
    """

    limits: ClassVar[tuple[str, ...]] = ()  # options that may differ, so that a run can be trained further


@dataclass(frozen=True)
class RunOptions(SavedOptions):
    """Options of every training script. A script's own options are the fields of a subclass."""

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
    """Where the run is kept."""

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


def numbered_folders(parent: Path) -> list[Path]:
    found = [path for path in parent.glob("*") if path.name.isdecimal()] if parent.is_dir() else []
    return sorted(found, key=lambda path: int(path.name))


def option(name: str) -> str:
    return "--" + name.replace("_", "-")


def at_least(bound: float, **numbers: float) -> None:
    for name, number in numbers.items():
        if not bound <= number < math.inf:
            raise BadInputError(f"{option(name)} must be at least {bound}, but it is {number}")


def above(bound: float, **numbers: float) -> None:
    for name, number in numbers.items():
        if not bound < number < math.inf:
            raise BadInputError(f"{option(name)} must be above {bound} and finite, but it is {number}")


def rate(**numbers: float) -> None:
    """Checks a dropout rate."""
    for name, number in numbers.items():
        if not 0 <= number < 1:
            raise BadInputError(f"{option(name)} must be from 0 to below 1, but it is {number}")
