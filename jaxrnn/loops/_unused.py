"""A cell whose derivatives ignore unused steps and sequences."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from jaxrnn._tracing import ignoring_unused
from jaxrnn.layer import Cell


class IgnoringUnused(NamedTuple):
    """The functions of a cell, with derivatives that ignore unused steps and sequences, even if they are NaN."""

    project: Callable[..., Any]
    step: Callable[..., Any]
    readout: Callable[..., Any]

    @staticmethod
    def of(cell: Cell) -> IgnoringUnused:
        return IgnoringUnused(*map(ignoring_unused, (cell.project, cell.step, cell.readout)))
