"""Parses the command line of a script, and turns errors into one line and an exit code."""

from __future__ import annotations

import dataclasses
import inspect
import io
import sys
from collections.abc import Callable
from typing import Any

from support.cells import with_cell_names
from support.errors import BAD_INPUT, INTERRUPTED, BadInputError, end_quietly, fail
from support.options import OptionGroup, RunFolder, SavedOptions
from support.parsing import check, from_command_line
from support.run import refuse_differences, saved_options


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
    except BrokenPipeError:
        end_quietly()
    except OSError as error:  # for example a full disk
        where = f"cannot open or write {error.filename}: " if error.filename else ""
        fail(f"{where}{error.strerror or error}", BAD_INPUT)
    except KeyboardInterrupt:
        fail("stopped immediately; nothing was saved since the last checkpoint", INTERRUPTED)


def parse(groups: tuple[type[OptionGroup], ...], description: str | None) -> list[Any]:
    """Returns the checked options.

    An existing run keeps its saved options. Giving different ones is an error, but it may have another limit.
    """
    options = [with_cell_names(group) for group in from_command_line(groups, description)]
    if any(group.continues_run for group in options):
        (folder,) = (group for group in options if isinstance(group, RunFolder))
        run_dir = folder.existing
        saved = [saved_options(kind, run_dir) if issubclass(kind, SavedOptions) else kind() for kind in groups]
        options = [with_cell_names(group) for group in from_command_line(groups, description, defaults=saved)]
        for kind, before, now in zip(groups, saved, options, strict=True):
            if issubclass(kind, SavedOptions):
                may_differ = kind.limits if folder.resume else ()
                given = {name: value for name, value in dataclasses.asdict(now).items() if name not in may_differ}
                refuse_differences(run_dir, dataclasses.asdict(before), given)
    check(options)
    return options
