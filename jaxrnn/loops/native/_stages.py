"""Divides a step into stages, each of which runs over all rows before the next one begins.

A product with a matrix is a stage of its own. All elementwise work between two products is a single pass over the
lanes: only what a product, a reduction or the caller reads is stored. Slices and concatenations are offsets.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, NamedTuple

from jaxrnn.loops.native._elementwise import OPERATIONS
from jaxrnn.loops.native._host import Host
from jaxrnn.loops.native._nodes import REDUCTIONS, VIEWS, Node, UnsupportedError, is_in_order, offset_of_view, row_major
from jaxrnn.loops.native._product import row_stride, spread


@dataclass(eq=False)
class Slot:
    """Memory of a value: [rows, size], with `stride` numbers from row to row; 0 if all rows share it.

    `written_by` is the index of the stage that writes it, and -1 for inputs. A value that is stored for a later stage
    must not be read from its slot by an earlier one, which computes it again.
    """

    size: int
    dtype: str
    stride: int
    place: Any = None  # ("shared" | "before" | "after" | "in" | "out" | "total", index), or None for scratch memory
    written_by: int = -1


class Product(NamedTuple):
    """out[row, i] = a[row, i] @ matrix, for each of `parts` vectors of a row."""

    a: Slot
    matrix: Slot
    transposed: bool
    parts: int
    k: int
    n: int
    out: Slot


class Pass(NamedTuple):
    """Computes values lane by lane and stores them: for each row, all items of one size after those of smaller ones."""

    items: list[Item]

    def by_size(self) -> list[tuple[int, list[Item]]]:
        sizes = sorted({item.node.size for item in self.items})
        return [(size, [item for item in self.items if item.node.size == size]) for size in sizes]


class Item(NamedTuple):
    """Stores `node`, computed lane by lane, from number `offset` of `slot` on; or adds it."""

    node: Node
    slot: Slot
    offset: int
    accumulate: bool = False


class Reduction(NamedTuple):
    """out[i, k] = reduce over j of a[i, j, k]."""

    primitive: str
    a: Node
    extents: tuple[int, int, int]
    out: Slot


class Move(NamedTuple):
    """Copies a strided array into another one."""

    a: Node
    start: int
    strides: list[int]
    out: Slot
    out_start: int
    out_strides: list[int]
    extents: list[int]


class Fill(NamedTuple):
    """Stores one number everywhere."""

    value: Node
    out: Slot


class Contraction(NamedTuple):
    """out[i] = sum over k of a[i, k] * b[i, k], with strides for both kinds of axes."""

    a: Node
    b: Node
    out: Slot
    extents: list[int]  # of the axes of the result
    a_strides: list[int]
    b_strides: list[int]
    sums: list[int]  # extents of the axes that are summed
    a_sum_strides: list[int]
    b_sum_strides: list[int]


class Stages:
    """The stages of one step.

    Attributes:
      stages: In an order in which they can run.
      slots: All slots.
    """

    def __init__(self, host: Host) -> None:
        self._host = host
        self.stages: list[Any] = []
        self.slots: list[Slot] = []
        self._visited: set[int] = set()
        self._closed = False  # whether the last pass takes no more items

    def slot(self, size: int, dtype: str, stride: int | None = None, place: Any = None) -> Slot:
        slot = Slot(size, dtype, size if stride is None else stride, place)
        self.slots.append(slot)
        return slot

    def store(self, node: Node) -> Slot:
        """Makes sure that a node is in memory, one number after the other."""
        if node.primitive in VIEWS:
            return self.store(node.args[0])
        self.visit(node)
        if node.slot is None:
            slot = self.slot(node.size, node.dtype, spread(node.size))
            self.put(node, slot)
            node.slot = slot
        return node.slot

    def visit_parts(self, node: Node) -> None:
        """Visits the pieces of what `put` will store."""
        for part, _ in _in_parts(node):
            self.visit(part)

    def put(self, node: Node, slot: Slot, *, accumulate: bool = False) -> None:
        """Stores a node in a given slot."""
        parts = _in_parts(node)
        for part, _ in parts:
            self.visit(part)
        self._add(Pass([Item(part, slot, offset, accumulate) for part, offset in parts]))

    def visit(self, node: Node) -> None:
        """Stores everything that must be in memory before a node can be computed lane by lane."""
        if id(node) in self._visited or node.slot is not None:
            return
        self._visited.add(id(node))
        primitive = node.primitive
        if primitive in ("input", "constant"):
            return
        if primitive == "dot_general":
            node.slot = self._multiply(node)
        elif primitive in REDUCTIONS:
            node.slot = self._reduce(node)
        elif is_lanewise(node):
            for arg in node.args:
                self.visit(arg)
        elif primitive == "concatenate" and is_in_order(node):
            slot = self.slot(node.size, node.dtype)
            self.put(node, slot)
            node.slot = slot
            self._closed = True  # what reads it runs after all lanes of it are stored
        else:
            node.slot = self._move(node)

    def _add(self, stage: Any) -> None:
        if isinstance(stage, Pass) and self.stages and isinstance(self.stages[-1], Pass) and not self._closed:
            self.stages[-1].items.extend(stage.items)
        else:
            self.stages.append(stage)
            self._closed = False
        for slot in [item.slot for item in stage.items] if isinstance(stage, Pass) else [stage.out]:
            slot.written_by = len(self.stages) - 1

    def _multiply(self, node: Node) -> Slot:
        (contracted, batched), (a, b) = node.params["dimension_numbers"], node.args
        if node.dtype != "float32":
            raise UnsupportedError(f"dot_general of {node.dtype}")
        if not batched[0] and len(contracted[0]) == 1:
            (a_axis,), (b_axis,) = contracted
            swapped = a.shared and not b.shared
            row, matrix = (b, a) if swapped else (a, b)
            row_axis, matrix_axis = (b_axis, a_axis) if swapped else (a_axis, b_axis)
            last = row_axis == len(row.shape) - 1
            in_order = not swapped or len(row.shape) == 1
            if matrix.shared and not row.shared and len(matrix.shape) == 2 and last and in_order:
                return self._multiply_by_matrix(node, row, matrix, matrix_axis)
        return self._contract(node)

    def _multiply_by_matrix(self, node: Node, row: Node, matrix: Node, axis: int) -> Slot:
        k, n = matrix.shape[axis], matrix.shape[1 - axis]
        parts = math.prod(row.shape[:-1])
        a = self.store(row)
        if k == 0 or n == 0:
            raise UnsupportedError("dot_general of an empty matrix")
        out = self.slot(parts * n, "float32", row_stride(parts, n, self._host))
        self._add(Product(a, self.store(matrix), axis == 1, parts, k, n, out))
        return out

    def _contract(self, node: Node) -> Slot:
        (contracted, batched), (a, b) = node.params["dimension_numbers"], node.args
        for operand in (a, b):
            self.store(operand)
        strides_a, strides_b = row_major(a.shape), row_major(b.shape)
        free_a = [x for x in range(len(a.shape)) if x not in (*contracted[0], *batched[0])]
        free_b = [x for x in range(len(b.shape)) if x not in (*contracted[1], *batched[1])]
        extents = [*(a.shape[x] for x in (*batched[0], *free_a)), *(b.shape[x] for x in free_b)]
        out = self.slot(node.size, node.dtype)
        self._add(
            Contraction(
                *(a, b, out, extents),
                a_strides=[*(strides_a[x] for x in (*batched[0], *free_a)), *(0 for _ in free_b)],
                b_strides=[
                    *(strides_b[x] for x in batched[1]),
                    *(0 for _ in free_a),
                    *(strides_b[x] for x in free_b),
                ],
                sums=[a.shape[x] for x in contracted[0]],
                a_sum_strides=[strides_a[x] for x in contracted[0]],
                b_sum_strides=[strides_b[x] for x in contracted[1]],
            )
        )
        return out

    def _reduce(self, node: Node) -> Slot:
        a, shape = node.args[0], node.args[0].shape
        axes = sorted(node.params["axes"])
        out = self.store(a)
        while axes:
            last = first = axes.pop()
            while axes and axes[-1] == first - 1:
                first = axes.pop()
            extents = math.prod(shape[:first]), math.prod(shape[first : last + 1]), math.prod(shape[last + 1 :])
            shape = (*shape[:first], *shape[last + 1 :])
            out = self.slot(math.prod(shape), node.dtype)
            self._add(Reduction(node.primitive, a, extents, out))
            a = Node("input", [], {}, shape, node.dtype)
            a.slot, a.shared = out, False
        return out

    def _move(self, node: Node) -> Slot:
        a, primitive = node.args[0], node.primitive
        out = self.slot(node.size, node.dtype)
        strides, out_strides = row_major(a.shape), row_major(node.shape)
        start, out_start, extents = 0, 0, list(node.shape)
        if primitive == "concatenate":
            axis = node.params["dimension"]
            for piece in node.args:
                self.store(piece)
                self._add(Move(piece, 0, row_major(piece.shape), out, out_start, out_strides, list(piece.shape)))
                out_start += piece.shape[axis] * out_strides[axis]
            return out
        self.store(a)
        if primitive == "broadcast_in_dim":
            of_axis = dict(zip(node.params["broadcast_dimensions"], range(len(a.shape)), strict=True))
            strides = [
                strides[of_axis[x]] if x in of_axis and a.shape[of_axis[x]] != 1 else 0 for x in range(len(node.shape))
            ]
        elif primitive == "transpose":
            strides = [strides[x] for x in node.params["permutation"]]
        elif primitive == "slice":
            steps = node.params["strides"] or (1,) * len(a.shape)
            start = sum(
                int(first) * stride for first, stride in zip(node.params["start_indices"], strides, strict=True)
            )
            strides = [stride * step for stride, step in zip(strides, steps, strict=True)]
        elif primitive == "split":
            start = int(sum(node.params["sizes"][: node.index])) * strides[node.params["axis"]]
        elif primitive == "rev":
            for axis in node.params["dimensions"]:
                start += (a.shape[axis] - 1) * strides[axis]
                strides[axis] = -strides[axis]
        elif primitive == "pad":
            self.visit(node.args[1])
            self._add(Fill(node.args[1], out))
            extents = list(a.shape)
            for axis, (low, high, interior) in enumerate(node.params["padding_config"]):
                if low < 0 or high < 0:
                    raise UnsupportedError("pad by a negative size")
                out_start += low * out_strides[axis]
                out_strides[axis] *= interior + 1
        else:
            raise UnsupportedError(primitive)
        self._add(Move(a, start, strides, out, out_start, out_strides, extents))
        return out


def is_lanewise(node: Node) -> bool:
    """Returns whether lane j of a node needs nothing but lanes j + constant of its arguments, or single numbers."""
    primitive = node.primitive
    if primitive in VIEWS or primitive in OPERATIONS:
        return True
    if primitive in ("slice", "split"):  # a single number is read by all lanes, so it must be in memory
        return offset_of_view(node) is not None and (node.size > 1 or node.args[0].size == 1)
    return primitive == "broadcast_in_dim" and node.args[0].size in (1, node.size)


def _in_parts(node: Node) -> list[tuple[Node, int]]:
    """Returns the pieces of a nested concatenation, and where each of them begins."""
    if node.primitive in VIEWS and node.slot is None:
        return _in_parts(node.args[0])
    if node.primitive != "concatenate" or node.slot is not None or not is_in_order(node):
        return [(node, 0)]
    parts, start = [], 0
    for piece in node.args:
        parts += [(part, start + offset) for part, offset in _in_parts(piece)]
        start += piece.size
    return parts


def aliases(stages: list[Any], inputs: list[Slot], outputs: list[Slot]) -> dict[int, int]:
    """Returns inputs whose memory an output may take, as indices, so that less memory is touched.

    The last stage writes the outputs. An input's memory may be overwritten if nothing reads it after that: what reads
    it is in an earlier stage, in an earlier loop over lanes, or in the very iteration that overwrites the lanes read.
    """
    found: dict[int, int] = {}
    if not stages or not isinstance(stages[-1], Pass):
        return found
    groups = stages[-1].by_size()
    for n, output in enumerate(outputs):
        if output.written_by != len(stages) - 1 or not output.size:
            continue
        writing = [g for g, (_, items) in enumerate(groups) if any(item.slot is output for item in items)]
        for m, given in enumerate(inputs):
            same = (given.size, given.dtype) == (output.size, output.dtype)
            if m in found or not same or len(writing) != 1:
                continue
            offsets = {item.offset for item in groups[writing[0]][1] if item.slot is output}
            reads = [_reads(items, given, len(stages) - 1) for _, items in groups]
            if not any(reads[writing[0] + 1 :]) and reads[writing[0]] <= offsets:
                found[m] = n
                break
    return found


def _reads(items: list[Item], slot: Slot, index: int) -> set[int]:
    """Returns at which offsets items of stage `index` read a slot; -1 for a single number, which all lanes read."""
    found: set[int] = set()
    seen: set[tuple[int, int]] = set()

    def visit(node: Node, offset: int) -> None:
        offset = 0 if node.size == 1 else offset
        if (id(node), offset) in seen:
            return
        seen.add((id(node), offset))
        if node.slot is not None and node.slot.written_by < index:
            if node.slot is slot:
                found.add(-1 if node.size == 1 else offset)
            return
        moved = offset_of_view(node) if node.primitive in ("slice", "split") else 0
        for arg in node.args:
            visit(arg, offset + (moved or 0))

    for item in items:
        visit(item.node, 0)
    return found
