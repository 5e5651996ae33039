"""What the experiments share: the command line, the clock, Ctrl-C, the progress bar; and `run_directory`.

An experiment keeps its data, its model, its update and its training loop; this is what surrounds them.
"""

from __future__ import annotations

import contextlib
import dataclasses
import inspect
import io
import math
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar, NoReturn, Self, TypeVar

STARTED = time.perf_counter()  # before the slow imports: a run's minutes are those on the wall

import tyro  # noqa: E402
from run_directory import BadInputError as BadInputError  # noqa: E402
from run_directory import Checkpoints as Checkpoints  # noqa: E402
from run_directory import Run as Run  # noqa: E402
from run_directory import existing_run_dir, refuse_differences, saved_config  # noqa: E402
from run_directory import numbered as numbered  # noqa: E402
from run_directory import read_run as read_run  # noqa: E402
from tqdm import tqdm  # noqa: E402

import jaxrnn  # noqa: E402

# --- the command line ---


@dataclasses.dataclass(frozen=True)
class Config:
    """Options of every experiment. An experiment's own are the fields of a subclass."""

    run_dir: Path | None = None
    """Where everything of the run lies; None: a new numbered folder in runs/<experiment>."""
    resume: bool = False
    """Go on with the run in --run-dir (None: the newest) as if it had not been interrupted."""
    minutes: float = 4.0
    """How long the run takes, from start to end."""
    steps: int | None = None
    """How many updates the run makes; if given, --minutes says nothing."""
    seed: int = 0
    """Of everything random."""

    # Options of one call, not of the run: neither saved nor compared.
    of_the_call: ClassVar[tuple[str, ...]] = ("run_dir", "resume")

    @property
    def continues(self) -> bool:
        """Whether the call is for a run that is there."""
        return self.resume or getattr(self, "sample", None) is not None

    @classmethod
    def run_fields(cls) -> list[dataclasses.Field]:
        return [field for field in dataclasses.fields(cls) if field.name not in cls.of_the_call]

    def check(self) -> None:
        """Raises `BadInputError` on numbers that make no sense."""
        at_least(0, seed=self.seed)
        above(0, minutes=self.minutes)
        if self.steps is not None:
            at_least(1, steps=self.steps)


C = TypeVar("C", bound=Config)
FLAGS = (tyro.conf.FlagCreatePairsOff,)


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


def run(experiment: Callable[[Any], None], kind: type[Config]) -> None:
    """Runs an experiment on the options of the command line. Bad input ends in one line and exit code 2."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # a terminal that cannot show a symbol shows something else
    try:
        experiment(parse(kind))
    except BadInputError as error:
        fail(str(error), 2)
    except PermissionError as error:
        fail(f"may not use {error.filename}: {error.strerror}", 2)
    except KeyboardInterrupt:
        fail("stopped at once, nothing saved since the last checkpoint", 130)


def fail(message: str, code: int) -> NoReturn:
    stopped = code == 128 + signal.SIGINT  # the person's wish, no error
    print(message if stopped else f"error: {message}", file=sys.stderr)
    sys.exit(code)


def parse(kind: type[C]) -> C:
    """The options; those of a run that is there are its own, and giving others is an error."""
    config = from_command_line(kind)
    if config.continues:
        run_dir = existing_run_dir(config)
        saved = saved_config(kind, run_dir)
        config = from_command_line(kind, default=saved)
        refuse_differences(run_dir, *({f.name: getattr(c, f.name) for f in kind.run_fields()} for c in (saved, config)))
    config.check()
    return config


def from_command_line(kind: type[C], default: C | None = None) -> C:
    given: dict[str, Any] = {} if default is None else {"default": default}
    complaint = io.StringIO()
    try:
        with contextlib.redirect_stderr(complaint):
            config = tyro.cli(kind, description=inspect.getmodule(kind).__doc__, config=FLAGS, **given)
    except SystemExit as end:
        if not end.code:  # --help
            raise
        lines = [line.strip("│ ") for line in complaint.getvalue().splitlines()[1:]]
        rule = next((n for n, line in enumerate(lines) if not line.strip("─╰╯")), len(lines))
        raise BadInputError(f"{' '.join(lines[:rule])}; --help lists the options") from None
    paths = {n: v.absolute() for n, v in vars(config).items() if isinstance(v, Path) and n != "run_dir"}
    return dataclasses.replace(config, **paths)


def make_cell(name: str, hidden_size: int) -> jaxrnn.Cell:
    """A cell by its name in jaxrnn. Whatever other size it needs is half the hidden size."""
    cells = {n: c for n, c in vars(jaxrnn.cells).items() if isinstance(c, type) and issubclass(c, jaxrnn.Cell)}
    if name not in cells:
        raise BadInputError(f"there is no cell {name!r}; the cells are {', '.join(sorted(cells))}")
    needed = [f.name for f in dataclasses.fields(cells[name]) if f.default is dataclasses.MISSING]  # type: ignore[arg-type]
    sizes = {n: hidden_size if n == "hidden_size" else max(1, hidden_size // 2) for n in needed}
    return cells[name](**sizes)


# --- the course of a run ---


class Clock:
    """How far a run is: by its updates, or by the time since its start where that is what is limited.

    Args:
      config: its `steps`, or else its `minutes`.
      step: updates made by earlier processes of a resumed run.
      seconds: time they took.
      stages: how many parts the run has, at the end of each of which something is due.
    """

    def __init__(self, config: Config, step: int = 0, seconds: float = 0.0, stages: int = 20):
        self.steps, self.limit, self.stages = config.steps, 60 * config.minutes, stages
        self.step, self._before = step, seconds
        self.rate = math.nan  # updates a second
        self._stage = self._stage_at(step / self.steps if self.steps else seconds / self.limit)
        self._compiled = False

    @property
    def seconds(self) -> float:
        return self._before + time.perf_counter() - STARTED

    @property
    def progress(self) -> float:
        return self.step / self.steps if self.steps else self.seconds / self.limit

    @property
    def schedule(self) -> tuple[float, float]:
        """(a, b) of the progress a + b * step. By the steps it is that of each, whatever calls they are made in."""
        return (0.0, 1 / self.steps) if self.steps else (min(self.progress, 1.0), 0.0)

    @property
    def seconds_left(self) -> float:
        return (self.steps - self.step) / self.rate if self.steps else self.limit - self.seconds

    def updates(self, seconds: float = 0.5) -> int:
        """How many updates to make before looking again: some `seconds` of them, and not past what is due."""
        if math.isnan(self.rate):
            return 1
        if self.steps:
            most = math.ceil((self._stage + 1) * self.steps / self.stages) - self.step
        else:
            most = int(self.rate * self.seconds_left)
        return max(1, min(int(self.rate * seconds), most))

    def made(self, updates: int, seconds: float) -> None:
        """Tells the clock of updates made and of the time they took; the first call compiles and is not timed."""
        self.step += updates
        if self._compiled:
            rate = updates / seconds
            self.rate = rate if math.isnan(self.rate) else 0.8 * self.rate + 0.2 * rate
        self._compiled = True

    @property
    def due(self) -> bool:
        """Whether a stage has just ended; True once for each."""
        if math.isnan(self.rate) and self.progress < 1:  # all there is to tell is how long compiling took
            return False
        stage = self._stage_at(self.progress)
        ended, self._stage = stage > self._stage, max(stage, self._stage)
        return ended

    def _stage_at(self, progress: float) -> int:
        return min(self.stages, int(progress * self.stages + 1e-9))


class Interrupt:
    """Ctrl-C as a request to stop at the next good moment; a second one stops at once."""

    requested = False

    def __enter__(self) -> Self:
        self._before = {number: signal.signal(number, self._request) for number in (signal.SIGINT, signal.SIGTERM)}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _request(self, number: int, frame: Any) -> None:
        if self.requested:
            raise KeyboardInterrupt
        self.requested = True


class Progress:
    """A progress bar where someone watches; elsewhere only the lines that are said."""

    def __init__(self) -> None:
        form = "{percentage:3.0f}% |{bar:24}| {desc}"
        self._bar = tqdm(total=1.0, bar_format=form, disable=not sys.stderr.isatty(), leave=False, dynamic_ncols=True)

    def show(self, clock: Clock, line: str) -> None:
        self._bar.n = min(clock.progress, 1.0)
        self._bar.set_description_str(f"{line}, {span(clock.seconds_left)} left")

    def say(self, line: str) -> None:
        self._bar.write(line)
        sys.stdout.flush()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.close()


def span(seconds: float) -> str:
    """A length of time as people write it: 1:05, 2:03:04."""
    if not math.isfinite(seconds):
        return "?"
    minutes, seconds = divmod(max(0, round(seconds)), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"


def print_table(**rows: str) -> None:
    width = max(map(len, rows))
    print("\n".join(f"  {name:<{width}}  {value}" for name, value in rows.items()))
