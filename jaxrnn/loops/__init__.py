"""How a cell runs over time: one strategy, one file. Loops differ in cost, never in result."""

from jaxrnn.loops.associative_scan import AssociativeScan as AssociativeScan
from jaxrnn.loops.deferred import Deferred as Deferred
from jaxrnn.loops.scan import Loop as Loop
from jaxrnn.loops.scan import Scan as Scan
