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
from jaxrnn.loops.native._product import padded, row_stride, spread


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
    of_block: bool = False  # scratch memory that keeps the values of all steps of a block


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


class Phases(NamedTuple):
    """The stages with their indices: those that run before, at, and after the steps of a block.

    Attributes:
      early: Run once for all steps of a block, before them.
      in_loop: Run at every step.
      late: Run once for all steps of a block, after them.
    """

    early: list[tuple[int, Any]]
    in_loop: list[tuple[int, Any]]
    late: list[tuple[int, Any]]


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
        self._homes: dict[int, Slot] = {}  # of nodes that are results of the step, and need no other memory
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
            slot = self._homes.get(id(node)) or self.slot(node.size, node.dtype, spread(node.size))
            self.put(node, slot)
            node.slot = slot
        return node.slot

    def keep(self, results: list[tuple[Node, Slot, bool]]) -> None:
        """Stores results in given slots, or adds them (True), each as soon as everything that it needs is computed."""
        for node, slot, _ in results:
            node = _viewed(node)
            if slot.place[0] == "out" and node.slot is None and node.primitive != "constant":
                self._homes.setdefault(id(node), slot)
        waiting = [result for result in results if result[0].size]
        while waiting:
            ready = [result for result in waiting if self._is_ready(result[0])]
            waiting = [result for result in waiting if result not in ready]
            for node, slot, accumulate in ready:
                if _viewed(node).slot is not slot:
                    self.put(node, slot, accumulate=accumulate)
            for node in [_viewed(node) for node, *_ in ready]:
                if node.slot is None and id(node) in self._homes:
                    node.slot = self._homes[id(node)]
                    self._closed |= node.primitive == "concatenate"  # what reads it runs after all lanes are stored
            if waiting:
                for part, _ in _in_parts(waiting[0][0]):
                    self.visit(part)

    def _is_ready(self, node: Node) -> bool:
        """Returns whether a node can be stored without another stage before it."""
        seen: set[int] = set()

        def ready(node: Node) -> bool:
            if id(node) in seen or node.slot is not None or node.primitive in ("input", "constant"):
                return True
            seen.add(id(node))
            return is_lanewise(node) and all(map(ready, node.args))

        return all(ready(part) for part, _ in _in_parts(node))

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
            slot = self._homes.get(id(node)) or self.slot(node.size, node.dtype)
            self.put(node, slot)
            node.slot = slot
            self._closed = True  # what reads it runs after all lanes are stored
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
        out = self._homes.get(id(node))
        if out is None or n != padded(n, self._host):  # tiles write whole panels
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

    def phases(self) -> Phases:
        """Divides the stages into those that run at every step and those that run once for a block of steps.

        A product of inputs runs before the steps of a block, together with all stages that it needs. A product whose
        result only the caller reads runs after them. The matrix is then read once per block, not once per step.
        """
        reads = [slots_read(stage, n) for n, stage in enumerate(self.stages)]
        writes = [slots_written(stage) for stage in self.stages]

        def others(n: int, slots: list[list[Slot]], slot: Slot) -> list[int]:
            return [m for m, found in enumerate(slots) if m != n and any(slot is other for other in found)]

        def of_inputs(slot: Slot, known: set[int]) -> bool:
            if slot.place is not None:
                return slot.place[0] in ("shared", "in")
            return known.issuperset(others(-1, writes, slot))

        possible: set[int] = set()
        for n, stage in enumerate(self.stages):
            scratch = all(slot.place is None for slot in writes[n])
            if scratch and not isinstance(stage, Fill) and all(of_inputs(slot, possible) for slot in reads[n]):
                possible.add(n)
        early: set[int] = set()
        for n in sorted(possible, reverse=True):
            feeds = any(early.intersection(others(n, reads, slot)) for slot in writes[n])
            if isinstance(self.stages[n], Product) or feeds:
                early.add(n)
        late = {
            n
            for n, stage in enumerate(self.stages)
            if isinstance(stage, Product) and stage.out.place and not others(n, reads, stage.out)
            if stage.a.place is None or stage.a.place[0] in ("in", "out")
        }
        for slot in [slot for n in early for slot in writes[n]] + [slot for n in late for slot in reads[n]]:
            slot.of_block = slot.place is None
        groups = early, set(range(len(self.stages))) - early - late, late
        return Phases(*([(n, self.stages[n]) for n in sorted(group)] for group in groups))


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


def aliases(stages: list[Any], phases: Phases, inputs: list[Slot], outputs: list[Slot]) -> dict[int, int]:
    """Returns inputs whose memory an output may take, as indices, so that less memory is touched.

    An input's memory may be overwritten if nothing reads it after that: what reads it is in an earlier stage, in an
    earlier loop over lanes, or in the very iteration that overwrites the lanes read.
    """
    found: dict[int, int] = {}
    for n, output in enumerate(outputs):
        writers = [k for k, stage in enumerate(stages) if any(slot is output for slot in slots_written(stage))]
        if len(writers) != 1 or not output.size:
            continue
        (at,) = writers
        if at not in [k for k, _ in phases.in_loop] or not isinstance(stages[at], Pass):
            continue
        groups = stages[at].by_size()
        writing = [g for g, (_, items) in enumerate(groups) if any(item.slot is output for item in items)]
        elsewhere = [*phases.early, *phases.late]  # the caller's own arrays, which XLA would copy first
        after = [(k, stage) for k, stage in phases.in_loop if k > at] + elsewhere
        for m, given in enumerate(inputs):
            same = (given.size, given.dtype) == (output.size, output.dtype)
            if m in found or not same or len(writing) != 1:
                continue
            if any(slot is given for k, stage in after for slot in slots_read(stage, k)):
                continue
            offsets = {item.offset for item in groups[writing[0]][1] if item.slot is output}
            reads = [
                {offset for slot, offset in _reads([item.node for item in items], at) if slot is given}
                for _, items in groups
            ]
            if not any(reads[writing[0] + 1 :]) and reads[writing[0]] <= offsets:
                found[m] = n
                break
    return found


def slots_written(stage: Any) -> list[Slot]:
    return [item.slot for item in stage.items] if isinstance(stage, Pass) else [stage.out]


def slots_read(stage: Any, index: int) -> list[Slot]:
    """Returns the slots that stage `index` reads."""
    if isinstance(stage, Product):
        return [stage.a, stage.matrix]
    if isinstance(stage, Contraction):
        return [stored(stage.a), stored(stage.b)]
    if isinstance(stage, (Reduction, Move)):
        return [stored(stage.a)]
    nodes = [item.node for item in stage.items] if isinstance(stage, Pass) else [stage.value]
    return [slot for slot, _ in _reads(nodes, index)]


def stored(node: Node) -> Slot:
    """Returns the slot of what a node is a view of."""
    while node.slot is None:
        node = node.args[0]
    return node.slot


def _viewed(node: Node) -> Node:
    while node.primitive in VIEWS and node.slot is None:
        node = node.args[0]
    return node


def _reads(nodes: list[Node], index: int) -> list[tuple[Slot, int]]:
    """Returns which slots nodes of stage `index` read at which offsets; -1 for a number that all lanes read."""
    found: list[tuple[Slot, int]] = []
    seen: set[tuple[int, int]] = set()

    def visit(node: Node, offset: int) -> None:
        offset = 0 if node.size == 1 else offset
        if (id(node), offset) in seen:
            return
        seen.add((id(node), offset))
        if node.slot is not None and node.slot.written_by < index:
            found.append((node.slot, -1 if node.size == 1 else offset))
            return
        moved = offset_of_view(node) if node.primitive in ("slice", "split") else 0
        for arg in node.args:
            visit(arg, offset + (moved or 0))

    for node in nodes:
        visit(node, 0)
    return found
