"""What the experiments share: the command line; and from here, what `course` and `run_directory` have.

An experiment keeps its data, its model and its update; this is what surrounds them.
"""

from __future__ import annotations

import contextlib
import dataclasses
import difflib
import inspect
import io
import itertools
import math
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import course  # first: its clock starts the run's  # noqa: F401
import jax
import tyro
from course import fail as fail
from course import span as span
from course import training as training
from run_directory import BadInputError as BadInputError
from run_directory import Checkpoints as Checkpoints
from run_directory import Run as Run
from run_directory import existing_run_dir, refuse_differences, saved_config
from run_directory import numbered as numbered
from run_directory import read_run as read_run

import jaxrnn


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
        # The first paragraph after the title, in the frame that the terminal's encoding has.
        lines = [line.strip("│ ").strip("─╰╯-") for line in complaint.getvalue().splitlines()[1:]]
        paragraph = itertools.takewhile(bool, itertools.dropwhile(lambda line: not line, lines))
        raise BadInputError(f"{' '.join(paragraph)}; --help lists the options") from None
    paths = {n: v.absolute() for n, v in vars(config).items() if isinstance(v, Path) and n != "run_dir"}
    return dataclasses.replace(config, **paths)


def cell_class(name: str) -> type[jaxrnn.Cell]:
    """A class of cells by its name in jaxrnn."""
    cells = {kind.__name__: kind for kind in jaxrnn.cells.all()}
    if name not in cells:
        close = difflib.get_close_matches(name, cells, cutoff=0.4)
        meant = f"did you mean {', '.join(close)}? " if close else ""
        raise BadInputError(f"there is no cell {name!r}: {meant}python -m jaxrnn lists all {len(cells)}")
    return cells[name]


def make_cell(name: str, hidden_size: int, num_symbols: int | None = None, **given: Any) -> jaxrnn.Cell:
    """A cell by its name in jaxrnn. Whatever other size it needs, and is not given, is half the hidden size.

    If a number of symbols is given, the cell must read them as they are.
    """
    kind = cell_class(name)
    needed = [f.name for f in dataclasses.fields(kind) if f.default is dataclasses.MISSING]  # type: ignore[arg-type]
    sizes = {n: hidden_size if n == "hidden_size" else max(1, hidden_size // 2) for n in needed}
    try:
        cell = kind(**sizes | given)
        if num_symbols is not None:
            params = jax.eval_shape(lambda: cell.init(jax.random.key(0), num_symbols))
            symbols = jax.ShapeDtypeStruct((1, 3), "int32")  # nothing is computed: devices may not be chosen yet
            jax.eval_shape(lambda p, xs: jaxrnn.unroll(cell, p, xs), params, symbols)
    except (TypeError, ValueError) as error:
        raise BadInputError(f"--cell {name} cannot be of size {hidden_size} here: {error}") from None
    return cell


def print_table(**rows: str) -> None:
    width = max(map(len, rows))
    print("\n".join(f"  {name:<{width}}  {value}" for name, value in rows.items()))
