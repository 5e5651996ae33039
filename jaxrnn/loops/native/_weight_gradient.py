"""The gradient of a weight matrix, `a.T @ ct` for many rows, as machine code.

Each thread computes some panels of columns for all rows, so that results do not depend on the number of threads. It
adds up blocks of rows that fit in the cache.
"""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxrnn.loops._deferred_gradient import Before
from jaxrnn.loops.native import _call_frame as frames
from jaxrnn.loops.native._code import F32, I32, I64, VOID, Code, ir
from jaxrnn.loops.native._compile import HANDLER, register
from jaxrnn.loops.native._host import Host, this_host
from jaxrnn.loops.native._huge_pages import use_huge_pages
from jaxrnn.loops.native._kernels import declare_kernels
from jaxrnn.loops.native._loop import MOST_SLICES
from jaxrnn.loops.native._product import ROWS as TILE
from jaxrnn.loops.native._product import define_tiles, for_tiles, padded
from jaxrnn.loops.native._scan import like

ROWS = 384  # of a block, which stays in the cache
SMALL = 1_000_000  # multiplications that are not worth a second thread
SIZES = ("rows", "first_rows", "reverse", "k", "n", "block", "most_threads", "bytes_per_slice")


def weight_gradient(a: Array | Before, ct: Array) -> Array:
    """Returns `a.T @ ct` for `a` [rows, k] and `ct` [rows, n], in `float32`.

    Rows whose `ct` is zero are unused: NaN and infinity in them are ignored. If `a` is a `Before`, with the batch axes
    merged into the time axis, it is read where it is in memory instead of being copied into one array.
    """
    if isinstance(a, Before):
        return _sum_of_products(a.first, a.after, ct, a.reverse)
    return _sum_of_products(jnp.zeros((0, a.shape[1]), a.dtype), a, ct, False)


def _sum_of_products(first: Array, a: Array, ct: Array, reverse: bool) -> Array:
    """Returns `concatenate([first, a])[:rows].T @ ct`; if `reverse`, `concatenate([a, first])[-rows:].T @ ct`."""

    @jax.custom_vjp
    def run(first: Array, a: Array, ct: Array) -> Array:
        return _call(first, a, ct, reverse)

    def backward(saved: Any, ct_out: Array) -> Any:
        def by_xla(first: Array, a: Array, ct: Array) -> Array:
            rows = ct.shape[0]
            stacked = jnp.concatenate([a, first])[a.shape[0] + first.shape[0] - rows :] if reverse else None
            return (jnp.concatenate([first, a])[:rows] if stacked is None else stacked).T @ ct

        return jax.vjp(by_xla, *saved)[1](ct_out)

    run.defvjp(lambda *args: (run(*args), args), backward)
    return run(first, a, ct)


def _call(first: Array, a: Array, ct: Array, reverse: bool) -> Array:
    @jax.custom_batching.sequential_vmap
    def run(first: Array, a: Array, ct: Array) -> Array:
        host = this_host()
        (rows, n), k = ct.shape, a.shape[1]
        if not (rows and k and n):
            return jnp.zeros((k, n), jnp.float32)
        panels = padded(n, host) // host.panel
        threads = min(MOST_SLICES, panels)
        block = min(ROWS, rows)
        bytes_per_slice = 4 * (block * (host.panel + k + TILE) + k * host.panel)
        shapes = [((k, n), jnp.float32), ((threads * bytes_per_slice,), jnp.uint8)]
        results = [like((a, ct), shape, dtype) for shape, dtype in shapes]
        sizes = np.array([rows, first.shape[0], reverse, k, n, block, threads, bytes_per_slice], np.int32)
        return jax.ffi.ffi_call(_target(host), results)(sizes, first, a, ct)[0]

    return run(first, a, ct)


@functools.cache
def _target(host: Host) -> str:
    return register(str(_define(host)), host)


def _define(host: Host) -> Any:
    """Defines the handler that XLA calls. Its arguments are the numbers of `SIZES`, the two parts of `a`, and `ct`."""
    module = ir.Module(name="jaxrnn")
    kernels = declare_kernels(module, host)
    body = _define_slice(module, host)
    f = ir.Function(module, ir.FunctionType(I64, [I64]), HANDLER)
    c = Code(ir.IRBuilder(f.append_basic_block()), host)
    (frame,) = f.args
    done = f.append_basic_block("done")
    frames.answer_metadata(c, frame, done)
    given = frames.buffer(c, frame, frames.ARGS, 0)
    sizes = [c.b.sext(c.b.load(c.pointer(c.add(given, 4 * n), I32)), I64) for n in range(len(SIZES))]
    buffers = [frames.buffer(c, frame, frames.ARGS, n) for n in (1, 2, 3)]
    buffers += [frames.buffer(c, frame, frames.RESULTS, n) for n in range(2)]
    context = c.b.ptrtoint(c.b.alloca(ir.ArrayType(I64, len(sizes) + len(buffers))), I64)
    for n, word in enumerate([*sizes, *buffers]):
        c.store_word(word, c.add(context, 8 * n))
    rows, _, _, k, n, _, most, _ = sizes
    use_huge_pages(c, buffers[-2], c.mul(c.mul(k, n), 4))
    threads = c.b.call(kernels.num_threads, [frame])
    threads = c.b.select(c.b.icmp_signed("<", threads, most), threads, most)
    work = c.mul(c.mul(rows, k), n)
    small = c.b.or_(c.b.icmp_signed("<", work, c.int(SMALL)), c.b.icmp_signed("<", threads, c.int(1)))
    c.b.call(kernels.parallel, [frame, c.b.ptrtoint(body, I64), context, c.b.select(small, c.int(1), threads)])
    c.b.branch(done)
    c.b.position_at_end(done)
    c.b.ret(c.int(0))
    return module


def _define_slice(module: Any, host: Host) -> Any:
    """Defines `run_slice(context, slice, slices)`, which computes some panels of the result."""
    tiles = define_tiles(module, host, transposed=True)
    pack = _define_packing(module, host)
    f = ir.Function(module, ir.FunctionType(VOID, [I64] * 3), "run_slice")
    c = Code(ir.IRBuilder(f.append_basic_block()), host)
    context, index, slices = f.args
    words = [c.load_word(c.add(context, 8 * n)) for n in range(len(SIZES) + 5)]
    rows, first_rows, reverse, k, n, block, _, bytes_per_slice, first_a, other_a, ct, out, workspace = words
    panels = c.b.sdiv(c.add(n, host.panel - 1), c.int(host.panel))
    first, last = (c.b.sdiv(c.mul(x, panels), slices) for x in (index, c.add(index, 1)))
    packed = c.add(workspace, c.mul(index, bytes_per_slice))
    copy = c.add(packed, c.mul(block, 4 * host.panel))
    edge = c.add(
        copy, c.mul(c.mul(c.add(k, TILE), block), 4)
    )  # the last panel, if a part of its columns is past the last one
    whole = c.b.sdiv(n, c.int(host.panel))
    row_of_panel, stride = 4 * host.panel, c.mul(n, 4)

    def target(panel: Any) -> tuple[Any, Any]:
        """Returns where a panel of the result is, and the distance between its rows."""
        inside = c.b.icmp_signed("<", panel, whole)
        at = c.add(out, c.mul(panel, row_of_panel))
        return c.b.select(inside, at, edge), c.b.select(inside, stride, c.int(row_of_panel))

    with c.loop(first, last) as panel:
        at, distance = target(panel)
        with c.loop(0, k) as i, c.loop(0, host.panel, host.lanes) as lane:
            c.store(c.constant(0.0), c.add(at, c.mul(i, distance), c.mul(lane, 4)), "float32")

    def add_block(of_block: Any, count: Any) -> None:
        with c.loop(first, last) as panel:
            columns = c.mul(panel, host.panel)
            available = c.b.sub(n, columns)
            with c.b.if_else(c.b.icmp_signed("<", panel, whole)) as (all_of_it, part_of_it):
                with all_of_it, c.loop(0, count) as row, c.loop(0, host.panel, host.lanes) as lane:
                    source = c.add(of_block, c.mul(row, stride), c.mul(c.add(columns, lane), 4))
                    value = c.load(source, "float32")
                    c.store(value, c.add(packed, c.mul(row, row_of_panel), c.mul(lane, 4)), "float32")
                with part_of_it, c.loop(0, count) as row, c.loop(0, host.panel) as lane:
                    inside = c.b.icmp_signed("<", lane, available)
                    source = c.add(of_block, c.mul(row, stride), c.mul(c.add(columns, lane), 4))
                    value = c.b.load(c.pointer(c.b.select(inside, source, of_block), F32))  # any that may be read
                    value = c.b.select(inside, value, ir.Constant(F32, 0.0))
                    c.b.store(value, c.pointer(c.add(packed, c.mul(row, row_of_panel), c.mul(lane, 4)), F32))
            at, distance = target(panel)
            for_tiles(
                c,
                tiles,
                k,
                lambda i, at=at, distance=distance: [
                    *(c.add(copy, c.mul(c.mul(i, count), 4)), c.int(4 * TILE), packed),
                    *(count, c.add(at, c.mul(i, distance)), distance),
                ],
                equal=False,
            )

    # The rows of two arrays follow one another: the states before the first step, and those after the other steps.
    backwards = c.b.icmp_signed("!=", reverse, c.int(0))
    other_rows = c.b.sub(rows, first_rows)
    skipped = c.mul(c.mul(first_rows, k), 4)
    segments = [(first_a, first_rows), (other_a, other_rows)]
    if_reverse = [(c.add(other_a, skipped), other_rows), (first_a, first_rows)]
    (a, end), (a_after, _) = (
        tuple(c.b.select(backwards, x, y) for x, y in zip(one, other, strict=True))
        for one, other in zip(if_reverse, segments, strict=True)
    )
    with c.loop(0, 2) as segment:
        is_first = c.b.icmp_signed("==", segment, c.int(0))
        begins, ends = c.b.select(is_first, c.int(0), end), c.b.select(is_first, end, rows)
        source = c.b.select(is_first, a, a_after)
        with c.loop(begins, ends, block) as begin:
            left = c.b.sub(ends, begin)
            count = c.b.select(c.b.icmp_signed("<", left, block), left, block)
            of_block = c.add(ct, c.mul(begin, stride))
            start = c.add(source, c.mul(c.mul(c.b.sub(begin, begins), k), 4))
            c.b.call(pack, [start, of_block, copy, count, k, n])
            add_block(of_block, count)
    has_edge = c.b.and_(c.b.icmp_signed("==", last, panels), c.b.icmp_signed("<", whole, last))
    with c.b.if_then(has_edge), c.loop(0, k) as i:
        columns = c.mul(whole, host.panel)
        with c.loop(0, c.b.sub(n, columns)) as lane:
            value = c.b.load(c.pointer(c.add(edge, c.mul(i, row_of_panel), c.mul(lane, 4)), F32))
            c.b.store(value, c.pointer(c.add(out, c.mul(i, stride), c.mul(c.add(columns, lane), 4)), F32))
    c.b.ret_void()
    return f


def _define_packing(module: Any, host: Host) -> Any:
    """Defines `pack(a, ct, packed, rows, k, n)`, which packs `a` for tiles: [k / TILE, rows, TILE].

    NaN and infinity become zero in unused rows, whose `ct` is zero.
    """
    f = ir.Function(module, ir.FunctionType(VOID, [I64] * 6), "pack")
    f.linkage = "internal"
    c = Code(ir.IRBuilder(f.append_basic_block()), host)
    a, ct, packed, rows, k, n = f.args
    whole = c.b.sdiv(k, c.int(TILE))
    left = c.b.sub(k, c.mul(whole, TILE))
    zero = ir.Constant(F32, 0.0)

    def place(tile: Any, row: Any, lane: Any) -> Any:
        return c.add(packed, c.mul(c.add(c.mul(c.add(c.mul(tile, rows), row), TILE), lane), 4))

    def source(tile: Any, row: Any, lane: Any) -> Any:
        return c.add(a, c.mul(c.add(c.mul(row, k), c.mul(tile, TILE), lane), 4))

    total = c.b.alloca(c.vector(F32))  # the sum of 0 * x over all elements x: zero if all are finite, otherwise NaN
    c.b.store(c.constant(0.0), total)

    def note(x: Any) -> None:
        c.b.store(c.fma(x, c.constant(0.0), c.b.load(total)), total)

    with c.loop(0, whole) as tile, c.loop(0, rows) as row:
        for lane in range(0, TILE, host.lanes):
            count = min(host.lanes, TILE - lane)
            x = c.load(source(tile, row, lane), "float32", None if count == host.lanes else count)
            note(x)
            c.store(x, place(tile, row, lane), "float32", None if count == host.lanes else count)
    with c.loop(0, rows) as row, c.loop(0, left) as lane:
        x = c.load_scalar(source(whole, row, lane), "float32")
        note(x)
        c.store(x, place(whole, row, lane), "float32", 1)
    lanes = [c.b.extract_element(c.b.load(total), ir.Constant(I32, lane)) for lane in range(host.lanes)]
    is_finite = functools.reduce(c.b.and_, [c.b.fcmp_ordered("==", x, zero) for x in lanes])
    with c.b.if_then(is_finite):
        c.b.ret_void()
    used = c.b.alloca(ir.IntType(1))
    with c.loop(0, rows) as row:
        c.b.store(ir.Constant(ir.IntType(1), 0), used)
        with c.loop(0, n) as j:
            x = c.b.load(c.pointer(c.add(ct, c.mul(c.add(c.mul(row, n), j), 4)), F32))
            c.b.store(c.b.or_(c.b.load(used), c.b.fcmp_unordered("!=", x, zero)), used)
        with c.loop(0, k) as i:
            tile = c.b.sdiv(i, c.int(TILE))
            at = c.pointer(place(tile, row, c.b.sub(i, c.mul(tile, TILE))), F32)
            x = c.b.load(at)
            keep = c.b.or_(c.b.load(used), c.b.fcmp_ordered("==", c.b.fmul(x, zero), zero))
            c.b.store(c.b.select(keep, x, zero), at)
    c.b.ret_void()
    return f
