"""Products of rows with a matrix, which is packed into panels of columns.

A tile is at most six rows by one panel. Its sums stay in registers while it runs over the inner axis; each element of
the panel is loaded once for all rows of the tile.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from jaxrnn.loops.native._code import F32, I32, I64, VOID, Code, ir
from jaxrnn.loops.native._host import Host

ROWS = 6  # of a tile


def padded(n: int, host: Host) -> int:
    """Returns the number of columns of all panels of `n` columns."""
    return -(-n // host.panel) * host.panel


def row_stride(parts: int, n: int, host: Host) -> int:
    """Returns the distance between rows of a product. Tiles write whole panels, so the last part needs room."""
    return spread((parts - 1) * n + padded(n, host))


def spread(stride: int) -> int:
    """Returns a distance between rows that is no multiple of 1 KiB: such rows would collide in the cache."""
    return stride + 16 if stride % 256 == 0 else stride


def define_product(module: Any, host: Host) -> Any:
    """Defines `product(a, a_stride, a_step, packed, k, out, out_stride, out_step, rows, steps, panels)`.

    Strides are in bytes, from row to row and from step to step. The outer loop is over panels, so that each panel stays
    in the cache for all rows and steps.
    """
    tiles = define_tiles(module, host)
    f = ir.Function(module, ir.FunctionType(VOID, [I64] * 11), "product")
    f.linkage = "internal"
    c = Code(ir.IRBuilder(f.append_basic_block()), host)
    a, a_stride, a_step, packed, k, out, out_stride, out_step, rows, steps, panels = f.args
    single = c.b.icmp_signed("==", rows, c.int(1))  # then the steps are the rows of tiles
    a_stride, a_step = c.b.select(single, a_step, a_stride), c.b.select(single, a_stride, a_step)
    out_stride, out_step = c.b.select(single, out_step, out_stride), c.b.select(single, out_stride, out_step)
    rows, steps = c.b.select(single, steps, rows), c.b.select(single, rows, steps)
    with c.loop(0, panels) as panel, c.loop(0, steps) as step:
        columns = c.mul(panel, host.panel)
        weights = c.add(packed, c.mul(c.mul(columns, k), 4))
        at, target = c.add(a, c.mul(step, a_step)), c.add(out, c.mul(step, out_step), c.mul(columns, 4))
        for_tiles(
            c,
            tiles,
            rows,
            lambda first: [
                *(c.add(at, c.mul(first, a_stride)), a_stride, weights),
                *(k, c.add(target, c.mul(first, out_stride)), out_stride),
            ],
        )
    c.b.ret_void()
    return f


def for_tiles(
    c: Code, tiles: list[Any], rows: Any, arguments: Callable[[Any], list[Any]], *, equal: bool = True
) -> None:
    """Divides rows into tiles, and calls `tile(*arguments(first row))` for each of them.

    If `equal`, all tiles have about the same number of rows; otherwise, all but the last one have `ROWS`.
    """
    f = c.b.function
    blocks = c.b.sdiv(c.add(rows, ROWS - 1), c.int(ROWS))

    def start(block: Any) -> Any:
        if equal:
            return c.b.sdiv(c.mul(block, rows), blocks)
        whole = c.mul(block, ROWS)
        return c.b.select(c.b.icmp_signed("<", whole, rows), whole, rows)

    with c.loop(0, blocks) as block:
        first = start(block)
        count = c.b.sub(start(c.add(block, 1)), first)
        values = arguments(first)
        after = f.append_basic_block("after_tile")
        switch = c.b.switch(count, after)
        for n, tile in enumerate(tiles, start=1):
            case = f.append_basic_block(f"rows_{n}")
            switch.add_case(c.int(n), case)
            c.b.position_at_end(case)
            c.b.call(tile, values)
            c.b.branch(after)
        c.b.position_at_end(after)


def define_tiles(module: Any, host: Host, *, transposed: bool = False) -> list[Any]:
    """Defines `tile(a, a_stride, panel, k, out, out_stride)` for each number of rows, with strides in bytes.

    If `transposed`, the rows of a tile are columns of `a`, and what is in `out` is added to the result.
    """
    return [_define_tile(module, host, rows, transposed) for rows in range(1, ROWS + 1)]


def _define_tile(module: Any, host: Host, rows: int, transposed: bool) -> Any:
    f = ir.Function(module, ir.FunctionType(VOID, [I64] * 6), f"{'transposed_' if transposed else ''}tile_{rows}")
    f.linkage = "internal"
    f.attributes.add("noinline")
    c = Code(ir.IRBuilder(f.append_basic_block()), host)
    a, a_stride, panel, k, out, out_stride = f.args
    vectors, before = range(host.panel_vectors), c.b.block

    def target(r: int, v: int) -> Any:
        return c.add(out, c.mul(out_stride, r), 4 * host.lanes * v)

    if transposed:  # `out` is read after the sum
        for r in range(rows):
            for v in vectors:
                c.prefetch(target(r, v))
    body, after = f.append_basic_block("sum"), f.append_basic_block("store")
    c.b.branch(body)
    c.b.position_at_end(body)
    n = c.b.phi(I64)
    n.add_incoming(c.int(0), before)
    sums = [[c.b.phi(c.vector(F32)) for _ in vectors] for _ in range(rows)]
    row_of_panel = c.add(panel, c.mul(n, 4 * host.panel))
    weights = [c.load(c.add(row_of_panel, 4 * host.lanes * v), "float32") for v in vectors]
    new = []
    for r in range(rows):
        at = c.add(a, c.mul(n, a_stride), 4 * r) if transposed else c.add(a, c.mul(a_stride, r), c.mul(n, 4))
        x = c.load_scalar(at, "float32")
        new.append([c.fma(x, weights[v], sums[r][v]) for v in vectors])
    following = c.add(n, 1)
    n.add_incoming(following, body)
    for r in range(rows):
        for v in vectors:
            sums[r][v].add_incoming(c.constant(0.0), before)
            sums[r][v].add_incoming(new[r][v], body)
    c.b.cbranch(c.b.icmp_signed("<", following, k), body, after)
    c.b.position_at_end(after)
    for r in range(rows):
        for v in vectors:
            total = c.b.fadd(c.load(target(r, v), "float32"), new[r][v]) if transposed else new[r][v]
            c.store(total, target(r, v), "float32")
    c.b.ret_void()
    return f


def define_pack(module: Any, host: Host, *, transposed: bool) -> Any:
    """Defines `pack(w, k, n, packed, slice, slices)`, which packs a slice of the panels of `w` [k, n].

    If `transposed`, `w` is [n, k]. The columns that fill up the last panel are zero.
    """
    f = ir.Function(module, ir.FunctionType(VOID, [I64] * 6), "pack_transposed" if transposed else "pack")
    f.linkage = "internal"
    c = Code(ir.IRBuilder(f.append_basic_block()), host)
    w, k, n, packed, index, slices = f.args
    panels = c.b.sdiv(c.add(n, host.panel - 1), c.int(host.panel))
    first, last = (c.b.sdiv(c.mul(x, panels), slices) for x in (index, c.add(index, 1)))
    complete = _smallest(c, c.b.sdiv(n, c.int(host.panel)), last)
    whole = c.mul(c.b.sdiv(k, c.int(host.lanes)), host.lanes)

    def source(row: Any, column: Any) -> Any:
        row, column = (column, row) if transposed else (row, column)
        return c.add(w, c.mul(c.add(c.mul(row, k if transposed else n), column), 4))

    def target(panel: Any, row: Any, lane: Any) -> Any:
        return c.add(packed, c.mul(c.add(c.mul(c.add(c.mul(panel, k), row), host.panel), lane), 4))

    def copy_square(panel: Any, row: Any, lane: int) -> None:
        """Copies as many rows as there are lanes in a vector."""
        column = c.add(c.mul(panel, host.panel), lane)
        of_row = range(host.lanes)
        if transposed:
            values = _transpose(c, [c.load(source(row, c.add(column, i)), "float32") for i in of_row])
        else:
            values = [c.load(source(c.add(row, i), column), "float32") for i in of_row]
        for i in of_row:
            c.store(values[i], target(panel, c.add(row, i), lane), "float32")

    def copy_number(panel: Any, row: Any, lane: Any) -> None:
        column = c.add(c.mul(panel, host.panel), lane)
        inside = c.b.icmp_signed("<", column, n)
        value = c.b.load(c.pointer(c.b.select(inside, source(row, column), w), F32))  # any that may be read
        c.b.store(c.b.select(inside, value, ir.Constant(F32, 0.0)), c.pointer(target(panel, row, lane), F32))

    outer, inner = (first, complete, 1), (0, whole, host.lanes)
    if not transposed:  # in the order in which `w` is in memory
        outer, inner = inner, outer
    with c.loop(*outer) as x, c.loop(*inner) as y:
        for lane in range(0, host.panel, host.lanes):
            copy_square(*((x, y) if transposed else (y, x)), lane)
    with c.loop(first, complete) as panel, c.loop(whole, k) as row, c.loop(0, host.panel) as lane:
        copy_number(panel, row, lane)
    with c.loop(complete, last) as panel, c.loop(0, k) as row, c.loop(0, host.panel) as lane:
        copy_number(panel, row, lane)
    c.b.ret_void()
    return f


def _smallest(c: Code, x: Any, y: Any) -> Any:
    return c.b.select(c.b.icmp_signed("<", x, y), x, y)


def _transpose(c: Code, rows: list[Any]) -> list[Any]:
    """Transposes a square of as many vectors as a vector has lanes, by exchanging ever larger blocks."""
    n = len(rows)
    size = 1
    while size < n:
        low = ir.Constant(c.vector(I32), [lane if not lane & size else n + lane - size for lane in range(n)])
        high = ir.Constant(c.vector(I32), [lane + size if not lane & size else n + lane for lane in range(n)])
        for i in [i for i in range(n) if not i & size]:
            one, other = rows[i], rows[i + size]
            rows[i], rows[i + size] = c.b.shuffle_vector(one, other, low), c.b.shuffle_vector(one, other, high)
        size *= 2
    return rows
