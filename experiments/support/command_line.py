"""Parses the command line of a script, and turns errors into one line and an exit code."""

from __future__ import annotations

import contextlib
import dataclasses
import inspect
import io
import itertools
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import tyro

from support.errors import BAD_INPUT, INTERRUPTED, BadInputError, fail
from support.options import OptionGroup, RunFolder, SavedOptions
from support.run import refuse_differences, saved_options

FLAGS = (tyro.conf.FlagCreatePairsOff,)


def launch(experiment: Callable[..., object], *groups: type[OptionGroup], started: float | None = None) -> None:
    """Calls an experiment with one argument per group of options. Bad input ends in one line and exit code 2.

    Args:
      experiment: A function of the options. The docstring of its module is the description in --help.
      groups: Dataclasses of options; on the command line they are one list.
      started: The time at which the minutes of a run begin. None means now.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # for terminals that cannot show every symbol
    try:
        options = parse(groups, inspect.getmodule(experiment).__doc__)
        if started is not None:
            options = [dataclasses.replace(o, started=started) if isinstance(o, RunFolder) else o for o in options]
        experiment(*options)
    except BadInputError as error:
        fail(str(error), BAD_INPUT)
    except PermissionError as error:
        fail(f"cannot open {error.filename}: {error.strerror}", BAD_INPUT)
    except KeyboardInterrupt:
        fail("stopped immediately; nothing was saved since the last checkpoint", INTERRUPTED)


def parse(groups: tuple[type[OptionGroup], ...], description: str | None) -> list[Any]:
    """Returns the checked options. An existing run keeps its saved options; giving different ones is an error."""
    options = from_command_line(groups, description)
    if any(group.continues_run for group in options):
        (folder,) = (group for group in options if isinstance(group, RunFolder))
        run_dir = folder.existing
        saved = [saved_options(kind, run_dir) if issubclass(kind, SavedOptions) else kind() for kind in groups]
        options = from_command_line(groups, description, defaults=saved)
        for kind, before, now in zip(groups, saved, options, strict=True):
            if issubclass(kind, SavedOptions):
                refuse_differences(run_dir, dataclasses.asdict(before), dataclasses.asdict(now))
    for group in options:
        group.check()
    return options


def from_command_line(
    groups: tuple[type[OptionGroup], ...], description: str | None, defaults: list[Any] | None = None
) -> list[Any]:
    names = [heading(kind) for kind in groups]
    fields = [(name, tyro.conf.OmitArgPrefixes[kind]) for name, kind in zip(names, groups, strict=True)]
    together = dataclasses.make_dataclass("Options", fields, frozen=True)
    given = {} if defaults is None else {"default": together(*defaults)}
    complaint = io.StringIO()
    try:
        with contextlib.redirect_stderr(complaint):
            options = tyro.cli(together, description=description, config=FLAGS, **given)
    except SystemExit as end:
        if not end.code:  # --help
            raise
        # The first paragraph after the title. tyro frames it with the characters that the terminal's encoding has.
        lines = [line.strip("│ ").strip("─╰╯-") for line in complaint.getvalue().splitlines()[1:]]
        paragraph = itertools.takewhile(bool, itertools.dropwhile(lambda line: not line, lines))
        raise BadInputError(f"{' '.join(paragraph)}; --help lists the options") from None
    return [with_absolute_paths(getattr(options, name)) for name in names]


def with_absolute_paths(group: Any) -> Any:
    """Makes paths of data absolute, so that a run can be resumed from another directory."""
    paths = {n: v.absolute() for n, v in vars(group).items() if isinstance(v, Path) and n != "run_dir"}
    return dataclasses.replace(group, **paths)


def heading(kind: type[OptionGroup]) -> str:
    """Returns the heading of a group in --help, from the name of its class: `RunFolder` is "run folder"."""
    words = re.findall("[A-Z][a-z]*", kind.__name__.removesuffix("Options")) or ["Script"]
    return "_".join(words).lower()
