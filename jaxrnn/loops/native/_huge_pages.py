"""Huge pages for large results.

Large results are in new memory at every call, and the operating system takes about two microseconds for each page of
4 KiB when it is first touched. Linux provides pages of 2 MiB on request, which takes much less time.
"""

from __future__ import annotations

import sys
from typing import Any

from jaxrnn.loops.native._code import I32, I64, Code, ir

LARGE = 2**22  # the fewest bytes for which to ask
PAGE = 2**12
MADV_HUGEPAGE = 14  # Linux's value


def use_huge_pages(c: Code, address: Any, size: Any) -> None:
    """Writes code that asks for huge pages for `size` bytes, if they are many. The request may fail without effect."""
    if sys.platform != "linux":
        return
    size = c.int(size)
    with c.b.if_then(c.b.icmp_signed(">=", size, c.int(LARGE))):
        start = c.b.and_(c.add(address, PAGE - 1), c.int(-PAGE))
        whole = c.b.and_(c.add(size, -PAGE), c.int(-PAGE))
        c.b.call(c.declare("madvise", I32, [I64, I64, I32]), [start, whole, ir.Constant(I32, MADV_HUGEPAGE)])
