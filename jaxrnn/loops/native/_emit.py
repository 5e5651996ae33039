"""Writes the code of the stages."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from jaxrnn.loops.native._code import I32, I64, SIZE, Code, ir
from jaxrnn.loops.native._elementwise import OPERATIONS
from jaxrnn.loops.native._nodes import VIEWS, Node, offset_of_view
from jaxrnn.loops.native._stages import Contraction, Fill, Item, Move, Pass, Product, Reduction, Slot, stored

IDENTITY = {"reduce_sum": 0.0, "reduce_max": -math.inf, "reduce_min": math.inf, "reduce_prod": 1.0}
RANGES = {"bool": (0, 1), "int32": (-(2**31), 2**31 - 1), "uint32": (0, 2**32 - 1)}
COMBINE = {"reduce_sum": "add", "reduce_max": "max", "reduce_min": "min", "reduce_prod": "mul"}


class Emitter:
    """Writes stages for some rows of one step; products may run over several steps at once.

    Args:
      code: Where to write.
      base: Returns the address of a slot's first row.
      multiply: Writes the product of one vector of each row, given the stage, its addresses and strides, and `steps`.
      first, last: The rows are those from `first` to `last - 1`.
      steps: The number of steps of a product.
      step_stride: Returns the distance in bytes of a slot from step to step.
    """

    def __init__(
        self,
        code: Code,
        base: Callable[[Slot], Any],
        multiply: Callable[..., None],
        first: Any,
        last: Any,
        steps: Any = 1,
        step_stride: Callable[[Slot], Any] = lambda slot: 0,
    ):
        self.code, self._base, self._multiply = code, base, multiply
        self._first, self._last = first, last
        self._steps, self._step_stride = steps, step_stride
        self._index = 0  # of the stage that is being written

    def write(self, index: int, stage: Any) -> None:
        self._index = index
        writers: dict[type, Callable[[Any], None]] = {
            Product: self._write_product,
            Pass: self._write_pass,
            Reduction: self._write_reduction,
            Move: self._write_move,
            Fill: self._write_fill,
            Contraction: self._write_contraction,
        }
        writers[type(stage)](stage)

    def address(self, slot: Slot, row: Any, *offset: Any) -> Any:
        """Returns the address of a number of a row."""
        c = self.code
        return c.add(self._base(slot), c.mul(c.add(c.mul(row, slot.stride), *offset), SIZE[slot.dtype]))

    def _write_product(self, stage: Product) -> None:
        strides = [(4 * slot.stride, self._step_stride(slot)) for slot in (stage.a, stage.out)]
        for part in range(stage.parts):
            a = self.address(stage.a, self._first, part * stage.k)
            out = self.address(stage.out, self._first, part * stage.n)
            self._multiply(stage, a, strides[0], out, strides[1], self._steps)

    def _write_pass(self, stage: Pass) -> None:
        """Computes all items of one length in one loop over the lanes, and shares what they have in common."""
        c = self.code
        with c.loop(self._first, self._last) as row:
            for size, items in stage.by_size():
                whole = size // c.host.lanes * c.host.lanes

                def write(lane: Any, count: int | None, items: list[Item] = items, row: Any = row) -> None:
                    memo: dict[Any, Any] = {}
                    values = [self._lanes(item.node, 0, lane, row, count, memo) for item in items]
                    for item, value in zip(items, values, strict=True):  # an output may have the memory of an input
                        address = self.address(item.slot, row, item.offset, lane)
                        if item.accumulate:
                            before = c.load(address, item.slot.dtype, count)
                            value = OPERATIONS["add"](c, item.node, before, value)
                        c.store(value, address, item.slot.dtype, count)

                if whole:
                    with c.loop(0, whole, c.host.lanes) as lane:
                        write(lane, None)
                if size - whole:
                    write(whole, size - whole)

    def _lanes(self, node: Node, offset: int, lane: Any, row: Any, count: int | None, memo: dict[Any, Any]) -> Any:
        """Returns the lanes from `lane + offset` on of a node, as a vector."""
        c = self.code
        if node.size == 1:
            offset = 0
        if (key := (id(node), offset)) in memo:
            return memo[key]

        def read(arg: Node, offset: int = offset) -> Any:
            return self._lanes(arg, offset, lane, row, count, memo)

        if node.slot is not None and node.slot.written_by < self._index:
            result = self._load(node, row, offset, lane, count)
        elif node.primitive == "constant":
            result = c.constant(node.value, node.dtype)
        elif node.primitive in VIEWS or node.primitive == "broadcast_in_dim":
            result = read(node.args[0])
        elif node.primitive in ("slice", "split"):
            result = read(node.args[0], offset + offset_of_view(node))  # type: ignore[operator]
        else:
            result = OPERATIONS[node.primitive](c, node, *(read(arg) for arg in node.args))
        memo[key] = result
        return result

    def _load(self, node: Node, row: Any, offset: int, lane: Any, count: int | None) -> Any:
        if node.size == 1:
            return self.code.load_scalar(self.address(node.slot, row), node.slot.dtype)
        return self.code.load(self.address(node.slot, row, offset, lane), node.slot.dtype, count)

    def _write_reduction(self, stage: Reduction) -> None:
        c = self.code
        outer, n, inner = stage.extents
        a, dtype = stored(stage.a), stage.out.dtype
        identity = self._identity(stage.primitive, dtype)
        with c.loop(self._first, self._last) as row, c.loop(0, outer) as i:

            def reduce_columns(k: Any, count: int | None) -> None:
                total = self._accumulate(
                    n,
                    identity,
                    lambda j, total: self._combine(
                        stage, total, c.load(self.address(a, row, c.mul(c.add(c.mul(i, n), j), inner), k), dtype, count)
                    ),
                )
                c.store(total, self.address(stage.out, row, c.mul(i, inner), k), dtype, count)

            if inner > 1:
                self._over_lanes(inner, reduce_columns)
            else:
                whole = n // c.host.lanes
                start = c.mul(i, n)
                total = self._accumulate(
                    whole,
                    identity,
                    lambda j, total: self._combine(
                        stage, total, c.load(self.address(a, row, start, c.mul(j, c.host.lanes)), dtype)
                    ),
                )
                for j in range(whole * c.host.lanes, n):
                    lane = c.load_scalar(self.address(a, row, start, j), dtype)
                    first = c.b.insert_element(identity, c.b.extract_element(lane, _i32(0)), _i32(0))
                    total = self._combine(stage, total, first)
                halves = c.host.lanes // 2
                while halves:
                    order = [(x + halves) % c.host.lanes for x in range(c.host.lanes)]
                    moved = ir.Constant(c.vector(I32), order)
                    total = self._combine(stage, total, c.b.shuffle_vector(total, total, moved))
                    halves //= 2
                c.store(total, self.address(stage.out, row, i), dtype, 1)

    def _identity(self, primitive: str, dtype: str) -> Any:
        c = self.code
        if primitive in ("reduce_and", "reduce_or"):
            none = c.constant(0, dtype)
            return c.b.not_(none) if primitive == "reduce_and" else none
        value = IDENTITY[primitive]
        if dtype != "float32" and math.isinf(value):
            least, most = RANGES[dtype]
            value = least if value < 0 else most
        return c.constant(value, dtype)

    def _combine(self, stage: Reduction, x: Any, y: Any) -> Any:
        if stage.primitive in ("reduce_and", "reduce_or"):
            return getattr(self.code.b, stage.primitive[len("reduce_") :] + "_")(x, y)
        like = Node(COMBINE[stage.primitive], [], {}, (), stage.out.dtype)
        return OPERATIONS[like.primitive](self.code, like, x, y)

    def _accumulate(self, n: int, start: Any, step: Callable[[Any, Any], Any]) -> Any:
        """Returns `total = step(j, total)` for j in range(n), beginning with `start`."""
        c = self.code
        if n <= 0:
            return start
        function, before = c.b.function, c.b.block
        body, after = function.append_basic_block("sum"), function.append_basic_block("summed")
        c.b.branch(body)
        c.b.position_at_end(body)
        j, total = c.b.phi(I64), c.b.phi(start.type)
        j.add_incoming(c.int(0), before)
        total.add_incoming(start, before)
        new = step(j, total)
        following = c.b.add(j, c.int(1))
        j.add_incoming(following, c.b.block)
        total.add_incoming(new, c.b.block)
        c.b.cbranch(c.b.icmp_signed("<", following, c.int(n)), body, after)
        c.b.position_at_end(after)
        return new

    def _over_lanes(self, n: int, write: Callable[[Any, int | None], None]) -> None:
        whole = n // self.code.host.lanes * self.code.host.lanes
        if whole:
            with self.code.loop(0, whole, self.code.host.lanes) as lane:
                write(lane, None)
        if n - whole:
            write(whole, n - whole)

    def _write_move(self, stage: Move) -> None:
        c = self.code
        a, dtype = stored(stage.a), stage.out.dtype
        axes = [x for x, extent in enumerate(stage.extents) if extent != 1]
        if 0 in stage.extents:
            return
        inner: Any = (
            axes[-1] if axes and stage.out_strides[axes[-1]] == 1 and stage.strides[axes[-1]] in (0, 1) else None
        )

        def write(axes: list[int], source: Any, target: Any, row: Any) -> None:
            if not axes:
                c.store(
                    c.load_scalar(self.address(a, row, source), dtype), self.address(stage.out, row, target), dtype, 1
                )
            elif axes == [inner]:
                one = c.load_scalar(self.address(a, row, source), dtype) if stage.strides[inner] == 0 else None

                def copy(lane: Any, count: int | None) -> None:
                    value = c.load(self.address(a, row, source, lane), dtype, count) if one is None else one
                    c.store(value, self.address(stage.out, row, target, lane), dtype, count)

                self._over_lanes(stage.extents[inner], copy)
            else:
                with c.loop(0, stage.extents[axes[0]]) as i:
                    moved = c.add(source, c.mul(i, stage.strides[axes[0]]))
                    write(axes[1:], moved, c.add(target, c.mul(i, stage.out_strides[axes[0]])), row)

        with c.loop(self._first, self._last) as row:
            write(axes, stage.start, stage.out_start, row)

    def _write_fill(self, stage: Fill) -> None:
        c = self.code
        with c.loop(self._first, self._last) as row:
            value = self._lanes(stage.value, 0, 0, row, None, {})
            self._over_lanes(
                stage.out.size,
                lambda lane, count: c.store(value, self.address(stage.out, row, lane), stage.out.dtype, count),
            )

    def _write_contraction(self, stage: Contraction) -> None:
        """Sums over the contracted axes for several neighbours at once, or for one if they are not contiguous."""
        c = self.code
        if 0 in stage.extents:
            return
        a, b = stored(stage.a), stored(stage.b)
        axes = [x for x, extent in enumerate(stage.extents) if extent != 1]
        out_strides = [math.prod(stage.extents[x + 1 :]) for x in range(len(stage.extents))]
        inner = axes[-1] if axes else None
        kinds = None if inner is None else (stage.a_strides[inner], stage.b_strides[inner])
        vectorized = kinds in ((0, 1), (1, 0), (1, 1))

        def operand(slot: Slot, at: Any, stride: int, lane: Any, count: int | None, row: Any) -> Any:
            if stride == 0:
                return c.load_scalar(self.address(slot, row, at), "float32")
            return c.load(self.address(slot, row, at, lane), "float32", count)

        def total(at_a: Any, at_b: Any, strides: tuple[int, int], lane: Any, count: int | None, row: Any) -> Any:
            def nested(level: int, at_a: Any, at_b: Any, so_far: Any) -> Any:
                if level == len(stage.sums):
                    x = operand(a, at_a, strides[0], lane, count, row)
                    return c.fma(x, operand(b, at_b, strides[1], lane, count, row), so_far)

                def step(k: Any, so_far: Any) -> Any:
                    moved_a = c.add(at_a, c.mul(k, stage.a_sum_strides[level]))
                    return nested(level + 1, moved_a, c.add(at_b, c.mul(k, stage.b_sum_strides[level])), so_far)

                return self._accumulate(stage.sums[level], so_far, step)

            return nested(0, at_a, at_b, c.constant(0.0))

        def write(axes: list[int], at_a: Any, at_b: Any, target: Any, row: Any) -> None:
            if vectorized and axes == [inner]:

                def columns(lane: Any, count: int | None) -> None:
                    value = total(at_a, at_b, kinds, lane, count, row)  # type: ignore[arg-type]
                    c.store(value, self.address(stage.out, row, target, lane), "float32", count)

                self._over_lanes(stage.extents[inner], columns)  # type: ignore[index]
            elif not axes:
                value = total(at_a, at_b, (0, 0), 0, None, row)
                c.store(value, self.address(stage.out, row, target), "float32", 1)
            else:
                x = axes[0]
                with c.loop(0, stage.extents[x]) as i:
                    moved_a, moved_b = (
                        c.add(at_a, c.mul(i, stage.a_strides[x])),
                        c.add(at_b, c.mul(i, stage.b_strides[x])),
                    )
                    write(axes[1:], moved_a, moved_b, c.add(target, c.mul(i, out_strides[x])), row)

        with c.loop(self._first, self._last) as row:
            write(axes, 0, 0, 0, row)


def _i32(x: int) -> Any:
    return ir.Constant(I32, x)
