"""Large pages for large results.

XLA allocates fresh memory for every call that needs more than some megabytes, and the kernel takes about two
microseconds for each page of 4 KiB when it is touched for the first time. Linux gives pages of 2 MiB on request.
"""

from __future__ import annotations

import sys
from typing import Any

from jaxrnn.loops.native._code import I32, I64, Code, ir

LARGE = 2**22  # bytes
PAGE = 2**12
MADV_HUGEPAGE = 14  # of Linux


def use_huge_pages(c: Code, address: Any, size: Any) -> None:
    """Asks for large pages for `size` bytes, if that is many. It is an advice: nothing depends on the answer."""
    if sys.platform != "linux":
        return
    with c.b.if_then(c.b.icmp_signed(">=", c.int(size), c.int(LARGE))):
        start = c.b.and_(c.add(address, PAGE - 1), c.int(-PAGE))
        whole = c.b.and_(c.add(size, -PAGE), c.int(-PAGE))
        c.b.call(c.declare("madvise", I32, [I64, I64, I32]), [start, whole, ir.Constant(I32, MADV_HUGEPAGE)])
