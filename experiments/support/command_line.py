"""Parses the command line of a script, and turns errors into one line and an exit code."""

from __future__ import annotations

import dataclasses
import inspect
import io
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

from support.cells import with_cell_names
from support.distributed import agree, announce_end, error_of_others, join, number_of_processes
from support.errors import (
    BAD_INPUT,
    INTERRUPTED,
    PROCESS_LOST,
    STOPPED,
    BadInputError,
    end_now,
    end_quietly,
    raise_on_interrupt,
    show_error,
)
from support.options import Cluster, OptionGroup, RunFolder, SavedOptions
from support.parsing import check, from_command_line
from support.run import refuse_differences, saved_options


def launch(experiment: Callable[..., object], *groups: type[OptionGroup], started: float | None = None) -> None:
    """Parses the command line and runs an experiment, with one argument per group of options.

    Bad input is reported in one line, with exit code 2. With the group `Cluster`, which is not passed to the
    experiment, several processes can run it together. If one of them ends with an error, all do, each with one line.

    Args:
      experiment: A function of the options. The docstring of its module is the description in --help.
      groups: Dataclasses of options.
      started: The time of `time.perf_counter` from which --minutes counts. None means now.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # for terminals that cannot show every symbol
    try:
        raise_on_interrupt()
        options = parse(groups, inspect.getmodule(experiment).__doc__)
        if started is not None:
            options = [dataclasses.replace(o, started=started) if isinstance(o, RunFolder) else o for o in options]
        for cluster in (group for group in options if isinstance(group, Cluster)):
            join(cluster)
            agree("options", comparable(options))
        experiment(*(group for group in options if not isinstance(group, Cluster)))
    except BadInputError as error:
        end(str(error), BAD_INPUT)
    except BrokenPipeError:
        end_quietly()
    except OSError as error:  # for example a full disk
        where = f"cannot open or write {error.filename}: " if error.filename else ""
        end(f"{where}{error.strerror or error}", BAD_INPUT)
    except KeyboardInterrupt:
        end(STOPPED, INTERRUPTED)
    except Exception as error:
        if number_of_processes() == 1:
            if isinstance(error, MemoryError) or "RESOURCE_EXHAUSTED" in str(error):
                end("out of memory: choose smaller sizes, for example a smaller --batch", BAD_INPUT)
            raise
        message = error_of_others()
        if message is None:  # the error is this process's own
            traceback.print_exc()
            end(f"{type(error).__name__}: {error}", 1)
        if message:
            show_error(message, BAD_INPUT)
        end_now(BAD_INPUT if message else PROCESS_LOST)  # then the parent prints which process died; see `supervisor`


def end(message: str, code: int) -> NoReturn:
    """Prints one line to stderr and exits, if possible together with the other processes of the run."""
    show_error(message, code)
    if not announce_end(message, code):
        end_now(code)
    sys.exit(code)


def comparable(options: list[Any]) -> dict[str, Any]:
    """Returns the options that must be the same in all processes. Paths may differ; the data are compared instead."""
    same = [group for group in options if not isinstance(group, Cluster)]
    values = {name: value for group in same for name, value in vars(group).items()}
    return {name: value for name, value in values.items() if name != "started" and not isinstance(value, Path)}


def parse(groups: tuple[type[OptionGroup], ...], description: str | None) -> list[Any]:
    """Returns the checked options, one object per group.

    An existing run keeps its saved options. Different ones are an error, except for `limits` and `layout`.
    """
    options = [with_cell_names(group) for group in from_command_line(groups, description)]
    if any(group.continues_run for group in options):
        (folder,) = (group for group in options if isinstance(group, RunFolder))
        run_dir = folder.existing
        saved = [saved_options(kind, run_dir) if issubclass(kind, SavedOptions) else kind() for kind in groups]
        options = [with_cell_names(group) for group in from_command_line(groups, description, defaults=saved)]
        for kind, before, now in zip(groups, saved, options, strict=True):
            if issubclass(kind, SavedOptions):
                may_differ = (*kind.limits, *kind.layout) if folder.resume else ()
                given = {name: value for name, value in dataclasses.asdict(now).items() if name not in may_differ}
                refuse_differences(run_dir, dataclasses.asdict(before), given)
    check(options)
    return options
