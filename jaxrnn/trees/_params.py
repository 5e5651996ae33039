"""Parameters that several cells over trees share."""

from __future__ import annotations

from typing import NamedTuple

from jax import Array


class TreeParams(NamedTuple):
    # Tree-LSTMs have four gates in the order i, o, u, f. A recursive net has none.
    w_x: Array  # [input, 4 * hidden]; recursive net: [input, hidden]
    w_h: Array  # child-sum: [hidden, 4 * hidden]; N-ary: [N * hidden, (3 + N) * hidden]; net: [2 * hidden, hidden]
    b: Array  # [4 * hidden]; recursive net: [hidden]
