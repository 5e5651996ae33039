"""Reads options from the command line. It imports neither JAX nor anything else that is slow."""

from __future__ import annotations

import contextlib
import dataclasses
import io
import itertools
import re
import shutil
import sys
import textwrap
from pathlib import Path
from typing import Any

import tyro

from support.errors import BadInputError
from support.options import OptionGroup


def from_command_line(
    groups: tuple[type[OptionGroup], ...], description: str | None, defaults: list[Any] | None = None
) -> list[Any]:
    names = [heading(kind) for kind in groups]
    fields = [(name, tyro.conf.OmitArgPrefixes[kind]) for name, kind in zip(names, groups, strict=True)]
    together = dataclasses.make_dataclass("Options", fields, frozen=True)
    given = {} if defaults is None else {"default": together(*defaults)}
    paragraphs = [" ".join(paragraph.split()) for paragraph in (description or "").split("\n\n")]
    complaint = io.StringIO()
    try:
        with contextlib.redirect_stderr(complaint), contextlib.redirect_stdout(Filled(sys.stdout, paragraphs)):
            options = tyro.cli(together, description="\n\n".join(paragraphs), **given)
    except SystemExit as end:
        if not end.code:  # --help
            sys.stdout.flush()
            raise
        # The first paragraph after the title. tyro frames it with the characters that the terminal's encoding has.
        lines = [line.strip("│ ").strip("─╰╯-") for line in complaint.getvalue().splitlines()[1:]]
        paragraph = itertools.takewhile(bool, itertools.dropwhile(lambda line: not line, lines))
        raise BadInputError(f"{' '.join(paragraph)}; --help lists the options") from None
    return [with_absolute_paths(getattr(options, name)) for name in names]


class Filled:
    """A stream that breaks the lines of some paragraphs to fit the terminal. tyro prints a paragraph as one line."""

    def __init__(self, stream: Any, paragraphs: list[str]):
        self.stream, self.paragraphs = stream, paragraphs

    def write(self, text: str) -> int:
        width = shutil.get_terminal_size().columns
        for paragraph in filter(None, self.paragraphs):
            text = text.replace(paragraph, textwrap.fill(paragraph, width, break_on_hyphens=False))
        return self.stream.write(text)

    def flush(self) -> None:
        self.stream.flush()

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)


def with_absolute_paths(group: Any) -> Any:
    """Makes paths of data absolute, so that a run can be resumed from another directory."""
    paths = {n: v.absolute() for n, v in vars(group).items() if isinstance(v, Path) and n != "run_dir"}
    return dataclasses.replace(group, **paths)


def heading(kind: type[OptionGroup]) -> str:
    """Returns the heading of a group in --help, from the name of its class: `RunFolder` is "run folder"."""
    words = re.findall("[A-Z][a-z]*", kind.__name__.removesuffix("Options")) or ["Script"]
    return "_".join(words).lower()


def check(groups: list[Any]) -> None:
    """Checks each group's values, and that all options named on the command line have an effect."""
    words = (word.partition("=")[0] for word in sys.argv[1:] if word.startswith("--"))
    names = frozenset(word.removeprefix("--").replace("-", "_") for word in words)
    for group in groups:
        group.check_given(names)
        group.check()
