"""`python -m jaxrnn`: the table of all cells, as it stands in the README."""

from __future__ import annotations

import inspect
import re
from pathlib import Path

import jaxrnn
from jaxrnn.layer import Cell

FOLDER = "jaxrnn/cells/"
CITATION = re.compile(r"References: (?P<authors>[^\"]+), \"(?P<title>[^\"]+)\",(?: [^,.;]*,)? (?P<year>\d{4})")


def citation(cell: type[Cell]) -> dict[str, str]:
    """Authors, title and year of the paper that a cell's docstring names first."""
    found = CITATION.search(" ".join((cell.__doc__ or "").split()))
    if found is None:
        raise ValueError(f'{cell.__name__} must have References: authors, "title", year, but its docstring has none')
    return found.groupdict()


def row(cell: type[Cell]) -> str:
    """A cell's line of the table."""
    cited = citation(cell)
    first, *others = re.split(r", | and ", re.sub(r"\b(?:[A-Z]\.[ -]?)+", "", cited["authors"]).strip())
    authors = f"{first} et al." if len(others) > 1 else " and ".join([first, *others])
    state = ", ".join(getattr(jaxrnn, f"{cell.__name__}State")._fields)
    linear = "yes" if issubclass(cell, jaxrnn.LinearCell) else ""
    file = Path(inspect.getfile(cell)).name
    cells = (
        f"`{cell.__name__}`",
        f"{authors}, {cited['title']}",
        cited["year"],
        state,
        linear,
        f"[{file}]({FOLDER}{file})",
    )
    return f"| {' | '.join(cells)} |"


def table() -> str:
    """All cells, by name, in Markdown."""
    lines = ["| cell | paper | year | state | linear | file |", "|---|---|---|---|---|---|"]
    return "\n".join(lines + [row(cell) for cell in jaxrnn.cells.all()])


if __name__ == "__main__":
    print(table())
