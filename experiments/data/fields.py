"""The parts of a line of a text file."""

from __future__ import annotations

import re


def fields(line: str) -> list[str]:
    """Splits a line at blanks and tabs.

    `str.split` and the `\\s` of regular expressions also split at the no-break space of a fraction such as "8 1/2", and
    at other spaces of Unicode, which real files have within words.
    """
    return re.findall("[^ \t]+", line)
