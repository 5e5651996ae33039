"""The handler that XLA calls: packs the matrices, then runs all steps for a slice of the rows on each thread.

A call with a single row is run by a team of threads, which share the columns of each product. `_Writer` defines the
handler, and `Layout` the workspace.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any, NamedTuple

from jaxrnn.loops.native import _call_frame as frames
from jaxrnn.loops.native._code import I64, SIZE, VOID, Code, ir
from jaxrnn.loops.native._compile import HANDLER
from jaxrnn.loops.native._emit import Emitter
from jaxrnn.loops.native._host import Host
from jaxrnn.loops.native._huge_pages import use_huge_pages
from jaxrnn.loops.native._kernels import declare_kernels
from jaxrnn.loops.native._product import padded
from jaxrnn.loops.native._stages import Product, Slot, Stages

THREADS = os.cpu_count() or 1
MOST_SLICES = min(64, THREADS)  # the most threads that one call uses
MOST_MEMBERS = min(8, THREADS)  # the most threads that share a single row
SMALL_STEP = 60_000  # multiplications of one row that are not worth a second thread
ROWS_OF_BLOCK = 128  # for each thread
SMALL = 200_000  # elementary operations that are not worth a second thread
WORTH_WAITING = 2**17  # multiplications for which a thread gives way once while it waits for others


class Signature(NamedTuple):
    """The arguments and results of the handler: `sizes, *shared, *state, *xs -> *state, *ys, *totals, workspace`.

    The sizes are the numbers of steps, of rows, of steps in a block, and of rows for which there is memory.
    """

    shared: int
    state: int
    xs: int
    ys: int
    totals: int


@dataclass
class Layout:
    """Where values are in the workspace, whose size depends on the numbers of rows and of steps in a block."""

    bytes_per_row: int = 0
    bytes_per_row_of_block: int = 0
    fixed: int = 0
    packed: int = 0  # after all others; not needed for a single row
    in_blocks: bool = False

    def per_row(self, slot: Slot) -> int:
        """Reserves memory for a slot and returns where it begins, in bytes per row."""
        size = _aligned(slot.stride * SIZE[slot.dtype])
        if slot.of_block:
            self.bytes_per_row_of_block += size
            return self.bytes_per_row_of_block - size
        self.bytes_per_row += size
        return self.bytes_per_row - size

    def once(self, size: int) -> int:
        """Reserves `size` bytes and returns where they begin, after all memory of rows."""
        start = self.fixed
        self.fixed += _aligned(size)
        return start

    def for_matrix(self, size: int) -> int:
        """Reserves `size` bytes for a packed matrix and returns where they begin."""
        start = self.packed
        self.packed += _aligned(size)
        return start

    def block(self, time: int, rows: int) -> int:
        """Returns how many steps make a block: enough rows for each thread to read a matrix for many of them."""
        if not self.in_blocks:
            return max(time, 1)
        of_all_threads = ROWS_OF_BLOCK * min(MOST_SLICES, max(rows, 1))
        return max(1, min(time, -(-of_all_threads // max(rows, 1))))

    def rows(self, rows: int) -> int:
        """Returns for how many rows there must be memory: one for each member of a team."""
        return MOST_MEMBERS if rows == 1 else rows

    def size(self, rows: int, block: int) -> int:
        size = (self.bytes_per_row + block * self.bytes_per_row_of_block) * self.rows(rows) + self.fixed
        return max(64, size if rows == 1 else size + self.packed)


def _smallest(c: Code, x: Any, *others: Any) -> Any:
    for y in others:
        x = c.b.select(c.b.icmp_signed("<", x, y), x, y)
    return x


def _aligned(size: int) -> int:
    return -(-size // 64) * 64


def define_handler(host: Host, stages: Stages, signature: Signature, *, reverse: bool) -> tuple[Any, Layout]:
    """Returns the module with the handler, and the layout of its workspace."""
    module = ir.Module(name="jaxrnn")
    writer = _Writer(module, host, stages, signature, reverse)
    writer.define()
    return module, writer.layout


class _Writer:
    # The context of a call, in words: the sizes, the address of a team's meeting (0 without a team), and the addresses
    # of arguments, results and the workspace.
    TIME, ROWS, BLOCK, ROWS_IN_MEMORY, MEETING, FIRST = 0, 1, 2, 3, 4, 5

    def __init__(self, module: Any, host: Host, stages: Stages, signature: Signature, reverse: bool):
        self.module, self.host, self.stages, self.signature, self.reverse = module, host, stages, signature, reverse
        self.kernels = declare_kernels(module, host)
        s = signature
        self.num_args = s.shared + s.state + s.xs
        self.num_results = s.state + s.ys + s.totals + 1
        self.phases = stages.phases()
        self.layout = Layout(in_blocks=bool(self.phases.early or self.phases.late))
        self.starts = {id(slot): self.layout.per_row(slot) for slot in stages.slots if slot.place is None}
        products = [stage for _, stage in self.phases.in_loop if isinstance(stage, Product)]
        self.of_team = {id(stage.out): stage.out for stage in products}  # members of a team compute these together
        outs = [slot for slot in stages.slots if slot.place and slot.place[0] == "out"]
        self.own = {id(slot): self.layout.per_row(slot) for slot in outs if id(slot) not in self.of_team}
        self.before = self._state_slots("before")
        self.states = {n: (self.layout.per_row(slot), self.layout.per_row(slot)) for n, slot in self.before.items()}
        self.matrices: dict[Any, tuple[Product, int]] = {}
        for stage in stages.stages:
            if isinstance(stage, Product) and (key := self._matrix(stage)) not in self.matrices:
                size = 4 * stage.k * padded(stage.n, host)
                self.matrices[key] = (stage, self.layout.for_matrix(size))
        self.totals = {slot.place[1]: slot for slot in stages.slots if slot.place and slot.place[0] == "total"}
        self.total_starts = {n: self.layout.once(MOST_SLICES * _aligned(4 * t.size)) for n, t in self.totals.items()}

    def define(self) -> None:
        pack, run = self._define_packing(), self._define_slice()
        f = ir.Function(self.module, ir.FunctionType(I64, [I64]), HANDLER)
        c = Code(ir.IRBuilder(f.append_basic_block()), self.host)
        (frame,) = f.args
        done = f.append_basic_block("done")
        frames.answer_metadata(c, frame, done)
        words = self.FIRST + self.num_args + self.num_results
        context = c.b.ptrtoint(c.b.alloca(ir.ArrayType(I64, words)), I64)
        sizes = frames.buffer(c, frame, frames.ARGS, 0)
        i32 = ir.IntType(32)
        time, rows, _, rows_in_memory = numbers = [
            c.b.sext(c.b.load(c.pointer(c.add(sizes, 4 * n), i32)), I64) for n in range(4)
        ]
        for place, number in zip((self.TIME, self.ROWS, self.BLOCK, self.ROWS_IN_MEMORY), numbers, strict=True):
            c.store_word(number, c.add(context, 8 * place))
        c.store_word(0, c.add(context, 8 * self.MEETING))
        for n in range(self.num_args):
            c.store_word(frames.buffer(c, frame, frames.ARGS, 1 + n), c.add(context, 8 * (self.FIRST + n)))
        for n in range(self.num_results):
            address = c.add(context, 8 * (self.FIRST + self.num_args + n))
            c.store_word(frames.buffer(c, frame, frames.RESULTS, n), address)

        self._use_huge_pages(c, context)
        available = c.b.call(self.kernels.num_threads, [frame])
        single = c.b.icmp_signed("==", rows, c.int(1))
        with c.b.if_else(single) as (one_row, several_rows):
            with one_row:
                self._write_single_row(c, run, frame, context, _smallest(c, available, rows_in_memory))
                self._write_totals(c, context, c.int(1))
            with several_rows:
                threads = _smallest(c, available, c.int(MOST_SLICES), rows)
                work = c.mul(c.mul(time, rows), self._cost())
                small = c.b.or_(c.b.icmp_signed("<", work, c.int(SMALL)), c.b.icmp_signed("<", threads, c.int(1)))
                threads = c.b.select(small, c.int(1), threads)
                for body in (pack, run):
                    c.b.call(self.kernels.parallel, [frame, c.b.ptrtoint(body, I64), context, threads])
                self._write_totals(c, context, threads)
        c.b.branch(done)
        c.b.position_at_end(done)
        c.b.ret(c.int(0))

    def _use_huge_pages(self, c: Code, context: Any) -> None:
        """Asks for large pages for outputs and packed matrices."""
        time, rows = self._word(c, context, self.TIME), self._word(c, context, self.ROWS)
        for slot in self.stages.slots:
            if slot.place and slot.place[0] == "out":
                size = c.mul(c.mul(time, rows), slot.size * SIZE[slot.dtype])
                use_huge_pages(c, self._result(c, context, self.signature.state + slot.place[1]), size)
        packed = c.add(self._fixed(c, context), self.layout.fixed)
        several = c.b.icmp_signed(">", rows, c.int(1))
        use_huge_pages(c, packed, c.b.select(several, c.int(self.layout.packed), c.int(0)))

    def _write_single_row(self, c: Code, run: Any, frame: Any, context: Any, threads: Any) -> None:
        """Runs all steps of a single row, in several threads if its products are large enough."""

        def alone() -> None:
            c.b.call(run, [context, c.int(0), c.int(1)])

        if self._products() < SMALL_STEP:
            alone()
            return
        with c.b.if_else(c.b.icmp_signed(">", threads, c.int(1))) as (several, one):
            with several:
                time = self._word(c, context, self.TIME)
                patience = c.b.sdiv(c.mul(time, self._products()), c.int(WORTH_WAITING))
                meeting = c.add(context, 8 * self.MEETING)
                c.b.call(self.kernels.team, [frame, c.b.ptrtoint(run, I64), context, threads, meeting, patience])
            with one:
                alone()

    def _products(self) -> int:
        """Returns the number of multiplications of a step and row in products."""
        return sum(s.parts * s.k * s.n for s in self.stages.stages if isinstance(s, Product))

    def _cost(self) -> int:
        """Returns the number of elementary operations of a step and row, roughly."""
        return self._products() + 20 * sum(slot.size for slot in self.stages.slots if slot.stride)

    def _state_slots(self, kind: str) -> dict[int, Slot]:
        return {slot.place[1]: slot for slot in self.stages.slots if slot.place and slot.place[0] == kind}

    def _matrix(self, stage: Product) -> Any:
        return id(stage.matrix), stage.transposed

    def _word(self, c: Code, context: Any, n: int) -> Any:
        return c.load_word(c.add(context, 8 * n))

    def _shared(self, c: Code, context: Any, n: int) -> Any:
        return self._word(c, context, self.FIRST + n)

    def _state(self, c: Code, context: Any, n: int) -> Any:
        return self._word(c, context, self.FIRST + self.signature.shared + n)

    def _x(self, c: Code, context: Any, n: int) -> Any:
        return self._word(c, context, self.FIRST + self.signature.shared + self.signature.state + n)

    def _result(self, c: Code, context: Any, n: int) -> Any:
        return self._word(c, context, self.FIRST + self.num_args + n)

    def _workspace(self, c: Code, context: Any) -> Any:
        return self._result(c, context, self.num_results - 1)

    def _fixed(self, c: Code, context: Any) -> Any:
        rows, block = self._word(c, context, self.ROWS_IN_MEMORY), self._word(c, context, self.BLOCK)
        per_row = c.add(c.mul(block, self.layout.bytes_per_row_of_block), self.layout.bytes_per_row)
        return c.add(self._workspace(c, context), c.mul(rows, per_row))

    def _define_packing(self) -> Any:
        f = ir.Function(self.module, ir.FunctionType(VOID, [I64] * 3), "packing")
        c = Code(ir.IRBuilder(f.append_basic_block()), self.host)
        context, index, slices = f.args
        fixed = self._fixed(c, context)
        for stage, start in self.matrices.values():
            w = self._shared(c, context, stage.matrix.place[1])
            arguments = (w, stage.k, stage.n, c.add(fixed, self.layout.fixed, start), index, slices)
            pack = self.kernels.pack_transposed if stage.transposed else self.kernels.pack
            c.b.call(pack, [c.int(x) for x in arguments])
        c.b.ret_void()
        return f

    def _define_slice(self) -> Any:
        f = ir.Function(self.module, ir.FunctionType(VOID, [I64] * 3), "run_slice")
        c = Code(ir.IRBuilder(f.append_basic_block()), self.host)
        context, index, slices = f.args
        time, rows = self._word(c, context, self.TIME), self._word(c, context, self.ROWS)
        rows_in_memory = self._word(c, context, self.ROWS_IN_MEMORY)
        meeting = self._word(c, context, self.MEETING)
        in_team = c.b.icmp_unsigned("!=", meeting, c.int(0))
        first = c.b.select(in_team, c.int(0), c.b.sdiv(c.mul(index, rows), slices))
        last = c.b.select(in_team, rows, c.b.sdiv(c.mul(c.add(index, 1), rows), slices))
        member, members = c.b.select(in_team, index, c.int(0)), c.b.select(in_team, slices, c.int(1))
        met = c.b.alloca(I64)  # how many members have arrived at all meetings together
        c.b.store(c.int(0), met)
        workspace, fixed = self._workspace(c, context), self._fixed(c, context)
        copy = self._memcpy()

        def memory(start: Any, row: Any, slot: Slot) -> Any:
            """Returns the address in the workspace of a row of a slot; members of a team have a row each."""
            return c.add(workspace, c.mul(rows_in_memory, start), c.mul(row, slot.stride * SIZE[slot.dtype]))

        def state_buffer(n: int, which: Any) -> Any:
            """Returns the address of the first (0) or second (1) buffer of a leaf of the state."""
            one, other = self.states[n]
            return memory(c.add(one, c.mul(which, other - one)), member, self.before[n])

        def copy_rows(target: Any, source: Any, slot: Slot) -> None:
            size = slot.size * SIZE[slot.dtype]
            offset = c.mul(first, size)
            bytes_ = c.mul(c.b.sub(last, first), size)
            c.b.call(copy, [c.add(target, offset), c.add(source, offset), c.int(bytes_)])

        def meet() -> None:
            """Waits for the other members of a team."""
            with c.b.if_then(in_team):
                arrivals = c.add(c.b.load(met), members)
                c.b.store(arrivals, met)
                c.b.call(self.kernels.meet, [meeting, arrivals])

        for n, slot in self.before.items():
            copy_rows(state_buffer(n, 0), self._state(c, context, n), slot)
        zero_totals: dict[int, Any] = {}
        for n, slot in self.totals.items():
            at = c.add(fixed, self.total_starts[n], c.mul(index, _aligned(4 * slot.size)))
            zero_totals[n] = at
            with c.loop(0, slot.size) as k:
                c.b.store(ir.Constant(ir.FloatType(), 0.0), c.pointer(c.add(at, c.mul(k, 4)), ir.FloatType()))

        shared = {n: self._shared(c, context, n) for n in range(self.signature.shared)}
        xs = {n: self._x(c, context, n) for n in range(self.signature.xs)}
        results = {n: self._result(c, context, n) for n in range(self.num_results)}
        block = self._word(c, context, self.BLOCK)
        packed = {key: c.add(fixed, self.layout.fixed, start) for key, (_, start) in self.matrices.items()}
        sign = -1 if self.reverse else 1

        def step_stride(slot: Slot) -> Any:
            """Returns the distance in bytes from step to step."""
            moves = slot.of_block or (slot.place and slot.place[0] in ("in", "out"))
            size = SIZE[slot.dtype] * (slot.stride if slot.of_block else sign * slot.size)
            return c.mul(c.b.select(in_team, rows_in_memory, rows) if slot.of_block else rows, size) if moves else 0

        def multiply(stage: Product, a: Any, a_strides: Any, out: Any, out_strides: Any, steps: Any) -> None:
            """Multiplies several rows by a packed matrix, or one row by this member's columns of the matrix."""
            single = c.b.icmp_signed("==", rows, c.int(1))
            kernels = self.kernels
            function = kernels.vector_product_transposed if stage.transposed else kernels.vector_product
            begin, end = c.int(0), c.int(stage.n)
            if id(stage.out) in self.of_team:
                begin, end = (c.b.sdiv(c.mul(x, stage.n), members) for x in (member, c.add(member, 1)))
            with c.b.if_else(single) as (one_row, several_rows):
                with one_row, c.loop(0, steps) as step:
                    moved = [c.add(a, c.mul(step, a_strides[1])), c.add(out, c.mul(step, out_strides[1]))]
                    matrix = shared[stage.matrix.place[1]]
                    c.b.call(function, [moved[0], matrix, c.int(stage.k), c.int(stage.n), moved[1], begin, end])
                with several_rows:
                    panels = padded(stage.n, self.host) // self.host.panel
                    count = c.b.sub(last, first)
                    arguments = (
                        *(a, *a_strides, packed[self._matrix(stage)], stage.k),
                        *(out, *out_strides, count, steps, panels),
                    )
                    c.b.call(self.kernels.product, [c.int(x) for x in arguments])

        def emitter(count: Any, begin: Any, steps: Any = 1) -> Emitter:
            """Returns what writes stages for step `count` of a block that begins with step `begin`."""
            now = c.b.sub(c.b.sub(time, c.int(1)), count) if self.reverse else count
            odd = c.b.and_(count, c.int(1))
            even = c.b.xor(odd, c.int(1))
            step = c.mul(now, rows)

            def base(slot: Slot) -> Any:
                if slot.of_block:
                    start = c.add(c.mul(block, self.starts[id(slot)]), self.layout.bytes_per_row)
                    return c.add(memory(start, member, slot), c.mul(c.b.sub(count, begin), step_stride(slot)))
                if slot.place is None:
                    # A team's products alternate between two rows, because slower members may still read the last one.
                    row = c.b.select(in_team, odd, c.int(0)) if id(slot) in self.of_team else member
                    return memory(self.starts[id(slot)], row, slot)
                kind, n = slot.place
                moved = c.mul(step, slot.size * SIZE[slot.dtype])
                if kind == "shared":
                    return shared[n]
                if kind == "before":
                    return state_buffer(n, odd)
                if kind == "after":
                    return state_buffer(n, even)
                if kind == "in":
                    return c.add(xs[n], moved)
                if kind == "out":
                    result = c.add(results[self.signature.state + n], moved)
                    if id(slot) not in self.own:
                        return result
                    is_first = c.b.icmp_signed("==", member, c.int(0))
                    return c.b.select(is_first, result, memory(self.own[id(slot)], member, slot))
                return zero_totals[n]

            bases: dict[int, Any] = {id(slot): base(slot) for slot in self.stages.slots}
            return Emitter(
                c,
                base=lambda slot: bases[id(slot)],
                multiply=multiply,
                first=first,
                last=last,
                steps=steps,
                step_stride=step_stride,
            )

        def write_for_block(stages: list[tuple[int, Any]], begin: Any, end: Any) -> None:
            for n, stage in stages:
                if isinstance(stage, Product):
                    emitter(begin, begin, c.b.sub(end, begin)).write(n, stage)
                else:
                    with c.loop(begin, end) as count:
                        emitter(count, begin).write(n, stage)

        with c.loop(0, time, block) as begin:
            end = c.add(begin, block)
            end = c.b.select(c.b.icmp_signed("<", end, time), end, time)
            write_for_block(self.phases.early, begin, end)
            with c.loop(begin, end) as count:
                at_step = emitter(count, begin)
                for n, stage in self.phases.in_loop:
                    at_step.write(n, stage)
                    if isinstance(stage, Product):
                        meet()
            write_for_block(self.phases.late, begin, end)
        for n, slot in self.before.items():
            copy_rows(results[n], state_buffer(n, c.b.and_(time, c.int(1))), slot)
        c.b.ret_void()
        return f

    def _write_totals(self, c: Code, context: Any, slices: Any) -> None:
        """Adds up the totals of the slices, in a fixed order."""
        f32 = ir.FloatType()
        fixed = self._fixed(c, context) if self.totals else None
        for n, slot in self.totals.items():
            result = self._result(c, context, self.signature.state + self.signature.ys + n)
            part = _aligned(4 * slot.size)
            with c.loop(0, slot.size) as k:
                target = c.pointer(c.add(result, c.mul(k, 4)), f32)
                c.b.store(ir.Constant(f32, 0.0), target)
                with c.loop(0, slices) as index:
                    source = c.add(fixed, self.total_starts[n], c.mul(index, part), c.mul(k, 4))
                    c.b.store(c.b.fadd(c.b.load(target), c.b.load(c.pointer(source, f32))), target)

    def _memcpy(self) -> Any:
        return ir.Function(self.module, ir.FunctionType(I64, [I64] * 3), "memcpy")
