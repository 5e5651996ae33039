"""The cells of the catalogue with their references: one file a family, `catalogue_<family>.py`."""

from __future__ import annotations

import importlib
from pathlib import Path

from references import Case

FAMILIES = sorted(path.stem for path in Path(__file__).parent.glob("catalogue_*.py"))
CELLS: dict[str, Case] = {
    name: case for family in FAMILIES for name, case in importlib.import_module(family).CELLS.items()
}
