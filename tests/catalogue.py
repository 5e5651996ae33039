"""The cells of the catalogue with their references: one file a family, `catalogue_<family>.py`."""

from __future__ import annotations

import importlib
from pathlib import Path

from references import Case

FAMILIES = sorted(path.stem for path in Path(__file__).parent.glob("catalogue_*.py"))
MODULES = [importlib.import_module(family) for family in FAMILIES]
CELLS: dict[str, Case] = {name: case for module in MODULES for name, case in module.CELLS.items()}
FROZEN: dict[str, tuple[str, ...]] = {  # parameters that cells hold fixed
    name: names for module in MODULES for name, names in getattr(module, "FROZEN", {}).items()
}
VARIANTS: dict[str, Case] = {  # what the batteries must see of a cell beside its entry above: other arguments
    name: case for module in MODULES for name, case in getattr(module, "VARIANTS", {}).items()
}
