"""Parses the docstring of a cell into its summary, its text, and its sections."""

from __future__ import annotations

import inspect
import re
from typing import Any, NamedTuple

SECTIONS = ("Example", "Args", "References", "Deviations")
_HEADING = re.compile(rf"^({'|'.join(SECTIONS)}):$")
_MATH = re.compile(r"^\.\. math::\s*(.*)$")
_ARGUMENT = re.compile(r"^(\w+): (.*)$")
_CITATION = re.compile(r"(?P<authors>[^\"]+), \"(?P<title>[^\"]+)\",(?: [^,.;]*,)? (?P<year>\d{4})")


class Block(NamedTuple):
    """A paragraph of text, or an equation in LaTeX."""

    text: str
    is_math: bool


class Citation(NamedTuple):
    authors: str
    title: str
    year: str


class Docstring(NamedTuple):
    summary: str
    body: list[Block]  # everything after the summary and before the first section
    sections: dict[str, str]  # without their headings and indentation

    @property
    def arguments(self) -> dict[str, str]:
        """What the section Args says about each argument."""
        found: dict[str, list[str]] = {}
        for line in self.sections.get("Args", "").splitlines():
            if start := _ARGUMENT.match(line):
                found[start[1]] = [start[2]]
            elif found:
                found[list(found)[-1]].append(line.strip())
        return {name: " ".join(lines) for name, lines in found.items()}


def parse(thing: Any) -> Docstring:
    """Parses the docstring of a class."""
    text: list[str] = []
    sections: dict[str, list[str]] = {}
    lines = text
    for line in (inspect.getdoc(thing) or "").splitlines():
        if heading := _HEADING.match(line):
            lines = sections.setdefault(heading[1], [])
        elif lines is not text and line and not line.startswith(" "):
            raise ValueError(f"the docstring of {thing.__name__} has text after its sections: {line!r}")
        else:
            lines.append(line)
    blocks = _blocks(text)
    summary = blocks[0].text if blocks else ""
    contents = {name: inspect.cleandoc("\n".join(lines)) for name, lines in sections.items()}
    return Docstring(summary, blocks[1:], contents)


def citation(cell: type) -> Citation:
    """Returns the authors, in short, the title and the year of the paper that a cell's docstring names first."""
    found = _CITATION.match(" ".join(parse(cell).sections.get("References", "").split()))
    if found is None:
        raise ValueError(
            f'the docstring of {cell.__name__} must have References that begin with authors, "title", year'
        )
    without_initials = re.sub(r"\b(?:[A-Z]\.[ -]?)+", "", found["authors"]).strip()
    first, *others = re.split(r", | and ", without_initials)
    authors = f"{first} et al." if len(others) > 1 else " and ".join([first, *others])
    return Citation(authors, found["title"], found["year"])


def _blocks(lines: list[str]) -> list[Block]:
    """Splits text into paragraphs and equations, which are the indented lines after `.. math::`."""
    blocks: list[Block] = []
    current: list[str] = []
    is_math = False

    def finish() -> None:
        if text := "\n".join(current).strip():
            blocks.append(Block(text if is_math else " ".join(text.split()), is_math))
        current.clear()

    for line in lines:
        if math := _MATH.match(line):
            finish()
            is_math = True
            current.append(math[1])
        elif is_math and line and not line.startswith(" "):
            finish()
            is_math = False
            current.append(line)
        elif not is_math and not line:
            finish()
        else:
            current.append(line)
    finish()
    return blocks
