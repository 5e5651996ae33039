"""How a cell runs over time: one strategy, one file. Loops differ in cost, never in result."""

from jaxrnn.layer import Loop
from jaxrnn.loops.associative_scan import AssociativeScan
from jaxrnn.loops.auto import Auto
from jaxrnn.loops.deferred import Deferred
from jaxrnn.loops.native import Native
from jaxrnn.loops.scan import Scan

__all__ = ["AssociativeScan", "Auto", "Deferred", "Loop", "Native", "Scan"]


def __dir__() -> list[str]:
    return __all__
