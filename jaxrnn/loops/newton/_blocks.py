"""Block diagonal Jacobians: which elements of the state a block mixes, and how its leaves are packed into one array."""

from __future__ import annotations

import math
from typing import NamedTuple

import jax.numpy as jnp
from jax import Array

from jaxrnn.loops.newton._dependencies import Component


class Block(NamedTuple):
    """Leaves whose Jacobian is block diagonal along shared axes, and their packing into one array [*shared, R].

    The last axis of the packed array contains the elements of all leaves that mix with each other.

    Attributes:
      leaves: The indices of the leaves.
      shapes: The shape of each leaf without time and batch axes.
      shared: For each leaf, the axes along which elements do not mix, in the same order for all leaves.
    """

    leaves: tuple[int, ...]
    shapes: tuple[tuple[int, ...], ...]
    shared: tuple[tuple[int, ...], ...]

    @property
    def sizes(self) -> list[int]:
        """The number of elements of each leaf on the last axis of the packed array."""
        pairs = zip(self.shapes, self.shared, strict=True)
        return [math.prod(size for a, size in enumerate(shape) if a not in shared) for shape, shared in pairs]

    @property
    def mixing(self) -> tuple[tuple[int, ...], ...]:
        """For each leaf, the axes along which elements mix, counted from the end."""
        pairs = zip(self.shapes, self.shared, strict=True)
        return tuple(tuple(a - len(shape) for a in range(len(shape)) if a not in shared) for shape, shared in pairs)

    @property
    def size(self) -> int:
        return sum(self.sizes)

    @property
    def shared_shape(self) -> tuple[int, ...]:
        return tuple(self.shapes[0][a] for a in self.shared[0])

    def pack(self, leaves: list[Array]) -> Array:
        """Packs arrays [*leading, *shape], one for each leaf, into one array [*leading, *shared, R]."""
        packed = []
        for x, shape, shared in zip(leaves, self.shapes, self.shared, strict=True):
            leading = x.ndim - len(shape)
            rest = [a for a in range(len(shape)) if a not in shared]
            x = x.transpose(*range(leading), *(leading + a for a in (*shared, *rest)))
            packed.append(x.reshape(*x.shape[: leading + len(shared)], math.prod(x.shape[leading + len(shared) :])))
        return jnp.concatenate(packed, axis=-1)

    def unpack(self, packed: Array) -> list[Array]:
        leading = packed.ndim - 1 - len(self.shared_shape)
        leaves, start = [], 0
        for shape, shared, size in zip(self.shapes, self.shared, self.sizes, strict=True):
            x = packed[..., start : start + size]
            start += size
            order = [*shared, *(a for a in range(len(shape)) if a not in shared)]
            x = x.reshape(*x.shape[:leading], *(shape[a] for a in order))
            leaves.append(x.transpose(*range(leading), *(leading + order.index(a) for a in range(len(shape)))))
        return leaves


def full_block(component: Component) -> Block:
    """Returns a component as one block, whose shared axes are those along which no elements of its leaves mix."""
    shapes = component.shapes
    group: dict[tuple[int, int], frozenset[tuple[int, int]]] = {
        (n, a): frozenset({(n, a)}) for n in component.leaves for a in range(len(shapes[n]))
    }
    pairs = [(n, m, axes) for n, row in zip(component.leaves, component.reads, strict=True) for m, axes in row.items()]
    for n, m, axes in pairs:
        for of_m, of_n in axes.items():
            joined = group[n, of_n] | group[m, of_m]
            group.update(dict.fromkeys(joined, joined))
    shared: list[dict[int, int]] = []
    for one in dict.fromkeys(group.values()):
        axis_of = dict(one)
        once_each = len(one) == len(axis_of) and set(axis_of) == set(component.leaves)
        if once_each and all(axes.get(axis_of[m]) == axis_of[n] for n, m, axes in pairs):
            shared.append(axis_of)
    shared_axes = tuple(tuple(axis_of[n] for axis_of in shared) for n in component.leaves)
    return Block(component.leaves, tuple(shapes[n] for n in component.leaves), shared_axes)


def elementwise_blocks(component: Component) -> list[Block]:
    """Returns one block for the leaves of each shape, in which only elements with the same index mix."""
    by_shape: dict[tuple[int, ...], list[int]] = {}
    for n in component.leaves:
        by_shape.setdefault(component.shapes[n], []).append(n)
    return [
        Block(tuple(leaves), (shape,) * len(leaves), (tuple(range(len(shape))),) * len(leaves))
        for shape, leaves in by_shape.items()
    ]
