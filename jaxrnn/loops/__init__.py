"""How a cell runs over time: one strategy, one file. Loops differ in cost, never in result."""

from jaxrnn.layer import Loop
from jaxrnn.loops.associative_scan import AssociativeScan
from jaxrnn.loops.auto import Auto
from jaxrnn.loops.chunked import Chunked
from jaxrnn.loops.deferred import Deferred
from jaxrnn.loops.native import Native
from jaxrnn.loops.newton import DiagonalJacobian, FullJacobian, Newton
from jaxrnn.loops.scan import Scan

__all__ = [
    "AssociativeScan",
    "Auto",
    "Chunked",
    "Deferred",
    "DiagonalJacobian",
    "FullJacobian",
    "Loop",
    "Native",
    "Newton",
    "Scan",
]


def __dir__() -> list[str]:
    return __all__
