"""Products of a single row with a matrix that is not packed.

Each element of the matrix is used only once per step, so packing would cost more than it saves. The speed is that of
memory, which is read in order, several rows of the matrix at a time.
"""

from __future__ import annotations

from typing import Any

from jaxrnn.loops.native._code import F32, I32, I64, VOID, Code, ir
from jaxrnn.loops.native._host import Host

# Rows of the matrix that are read at a time. Those at a distance of a power of two share eight places in the cache.
ROWS = 7


def define_vector_product(module: Any, host: Host) -> Any:
    """Defines `vector_product(a, w, k, n, out, first, last)`: elements `first` to `last` of `a @ w`, for `w` [k, n]."""
    f = ir.Function(module, ir.FunctionType(VOID, [I64] * 7), "vector_product")
    f.linkage = "internal"
    c = Code(ir.IRBuilder(f.append_basic_block()), host)
    a, w, k, n, out, first, last = f.args
    whole = c.add(first, c.mul(c.b.sdiv(c.b.sub(last, first), c.int(host.lanes)), host.lanes))
    blocks = c.mul(c.b.sdiv(k, c.int(ROWS)), ROWS)

    def zero(lane: Any, count: int | None) -> None:
        c.store(c.constant(0.0), c.add(out, c.mul(lane, 4)), "float32", count)

    def add(start: Any, rows: int, lane: Any, count: int | None) -> None:
        target = c.add(out, c.mul(lane, 4))
        total = c.load(target, "float32", count)
        for r in range(rows):
            row = c.add(start, r)
            x = c.load_scalar(c.add(a, c.mul(row, 4)), "float32")
            total = c.fma(x, c.load(c.add(w, c.mul(c.add(c.mul(row, n), lane), 4)), "float32", count), total)
        c.store(total, target, "float32", count)

    def over_columns(write: Any) -> None:
        with c.loop(first, whole, host.lanes) as lane:
            write(lane, None)
        with c.loop(whole, last) as lane:
            write(lane, 1)

    over_columns(zero)
    with c.loop(0, blocks, ROWS) as start:
        over_columns(lambda lane, count: add(start, ROWS, lane, count))
    with c.loop(blocks, k) as start:
        over_columns(lambda lane, count: add(start, 1, lane, count))
    c.b.ret_void()
    return f


def define_vector_product_transposed(module: Any, host: Host) -> Any:
    """Defines `vector_product_transposed(a, w, k, n, out, first, last)`: the same for `a @ w.T`, for `w` [n, k]."""
    f = ir.Function(module, ir.FunctionType(VOID, [I64] * 7), "vector_product_transposed")
    f.linkage = "internal"
    c = Code(ir.IRBuilder(f.append_basic_block()), host)
    a, w, k, _, out, first, last = f.args
    whole = c.mul(c.b.sdiv(k, c.int(host.lanes)), host.lanes)
    blocks = c.add(first, c.mul(c.b.sdiv(c.b.sub(last, first), c.int(ROWS)), ROWS))
    totals = [c.b.alloca(c.vector(F32)) for _ in range(ROWS)]

    def multiply(start: Any, rows: int) -> None:
        for total in totals[:rows]:
            c.b.store(c.constant(0.0), total)

        def add(lane: Any, count: int | None) -> None:
            x = c.load(c.add(a, c.mul(lane, 4)), "float32", count)
            for r, total in enumerate(totals[:rows]):
                y = c.load(c.add(w, c.mul(c.add(c.mul(c.add(start, r), k), lane), 4)), "float32", count)
                c.b.store(c.fma(x, y, c.b.load(total)), total)

        with c.loop(0, whole, host.lanes) as lane:
            add(lane, None)
        with c.loop(whole, k) as lane:
            add(lane, 1)
        for r, total in enumerate(totals[:rows]):
            c.store(_sum_of_lanes(c, c.b.load(total)), c.add(out, c.mul(c.add(start, r), 4)), "float32", 1)

    with c.loop(first, blocks, ROWS) as start:
        multiply(start, ROWS)
    with c.loop(blocks, last) as start:
        multiply(start, 1)
    c.b.ret_void()
    return f


def _sum_of_lanes(c: Code, x: Any) -> Any:
    """Returns a vector with the sum of all lanes in each lane."""
    half = c.host.lanes // 2
    while half:
        order = ir.Constant(c.vector(I32), [(lane + half) % c.host.lanes for lane in range(c.host.lanes)])
        x = c.b.fadd(x, c.b.shuffle_vector(x, x, order))
        half //= 2
    return x
