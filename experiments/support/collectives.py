"""The collective operations of a compiled program, read from its text."""

from __future__ import annotations

import math
import re

NAMES = "all-gather|all-to-all|collective-permute|all-reduce|reduce-scatter"


def collectives(program: str) -> list[tuple[str, int]]:
    """Returns the collective operations of a compiled program, and how many bytes each returns."""
    program = re.sub(r"/\*.*?\*/", "", program)
    found = re.findall(rf"= (.*?) ({NAMES})(?:-start)?\(", program)
    return [(name, sum(map(bytes_of_type, re.findall(r"[a-z]+\d*\[[\d,]*\]", shapes)))) for shapes, name in found]


def bytes_of_type(text: str) -> int:
    """Returns the bytes of an array of a type such as f32[3,4]."""
    kind, sizes = text.rstrip("]").split("[")
    bits = int(kind.lstrip("abcdefghijklmnopqrstuvwxyz")) if kind != "pred" else 8
    return bits // 8 * math.prod(int(size) for size in sizes.split(",") if size)
