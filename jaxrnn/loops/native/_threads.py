"""Divides a call among XLA's own threads.

A call with several rows is divided into slices of the rows. The calling thread takes slices from a counter like all
other threads, so that it can finish alone if no other thread is free. Threads that start too late find no slice left.
The last thread to leave frees the job, which is the memory that the threads share.
"""

from __future__ import annotations

from typing import Any

from jaxrnn.loops.native import _call_frame as frames
from jaxrnn.loops.native._code import I32, I64, VOID, Code, ir
from jaxrnn.loops.native._host import Host

NEXT, FINISHED, SLICES, USERS, BODY, CONTEXT, JOB_SIZE = 0, 8, 16, 24, 32, 40, 48
BODY_TYPE = ir.FunctionType(VOID, [I64, I64, I64])  # (context, slice, slices)


def define_parallel(module: Any, host: Host, leave: Any) -> Any:
    """Defines `parallel(frame, body, context, slices)`: calls `body(context, slice, slices)` for each slice."""
    drain = _define_drain(module, host)
    task = _define_task(module, host, drain, leave)

    f = ir.Function(module, ir.FunctionType(VOID, [I64] * 4), "parallel")
    f.linkage = "internal"
    c = Code(ir.IRBuilder(f.append_basic_block()), host)
    frame, body, context, slices = f.args
    alone, several, share, wait, done = (f.append_basic_block(n) for n in ("alone", "several", "share", "wait", "done"))
    c.b.cbranch(c.b.icmp_signed("<=", slices, c.int(1)), alone, several)
    c.b.position_at_end(alone)  # also if there is no memory for a job
    with c.loop(0, slices) as n:
        c.b.call(c.pointer(body, BODY_TYPE), [context, n, slices])
    c.b.branch(done)

    c.b.position_at_end(several)
    job = allocate(c, JOB_SIZE)
    c.b.cbranch(c.b.icmp_unsigned("==", job, c.int(0)), alone, share)
    c.b.position_at_end(share)
    for offset, value in (
        (NEXT, 0),
        (FINISHED, 0),
        (SLICES, slices),
        (USERS, slices),
        (BODY, body),
        (CONTEXT, context),
    ):
        c.store_word(value, c.add(job, offset))
    schedule(c, frame, task, leave, job, slices)
    c.b.call(drain, [job])
    c.b.branch(wait)
    c.b.position_at_end(wait)
    finished = c.b.load_atomic(c.pointer(c.add(job, FINISHED), I64), "seq_cst", 8)
    yielding, left = f.append_basic_block("yielding"), f.append_basic_block("left")
    c.b.cbranch(c.b.icmp_signed("<", finished, slices), yielding, left)
    c.b.position_at_end(yielding)
    yield_to_others(c)
    c.b.branch(wait)
    c.b.position_at_end(left)
    c.b.call(leave, [job])
    c.b.branch(done)
    c.b.position_at_end(done)
    c.b.ret_void()
    return f


def schedule(c: Code, frame: Any, task: Any, leave: Any, job: Any, users: Any) -> None:
    """Schedules `task(job)` on XLA's threads, once for each user of the job but this thread."""
    with c.loop(1, users):
        context = c.load_word(c.add(frame, 8 * frames.CONTEXT))
        error = frames.call(c, frame, frames.SCHEDULE, context, c.b.ptrtoint(task, I64), job)
        with frames.if_error(c, frame, error):  # not scheduled: the other threads do all the work
            c.b.call(leave, [job])


def allocate(c: Code, size: int) -> Any:
    """Returns the address of new memory, or 0 if there is none."""
    return c.b.call(c.declare("malloc", I64, [I64]), [c.int(size)])


def yield_to_others(c: Code) -> None:
    """Lets another thread run."""
    c.b.call(c.declare("sched_yield", I32, []), [])


def _define_drain(module: Any, host: Host) -> Any:
    """Defines `drain(job)`: takes and runs slices until none is left."""
    f = ir.Function(module, ir.FunctionType(VOID, [I64]), "drain")
    f.linkage = "internal"
    c = Code(ir.IRBuilder(f.append_basic_block()), host)
    (job,) = f.args
    slices = c.load_word(c.add(job, SLICES))
    take, run, done = (f.append_basic_block(n) for n in ("take", "run", "done"))
    c.b.branch(take)
    c.b.position_at_end(take)
    n = c.b.atomic_rmw("add", c.pointer(c.add(job, NEXT), I64), c.int(1), "seq_cst")
    c.b.cbranch(c.b.icmp_signed("<", n, slices), run, done)
    c.b.position_at_end(run)
    body = c.pointer(c.load_word(c.add(job, BODY)), BODY_TYPE)
    c.b.call(body, [c.load_word(c.add(job, CONTEXT)), n, slices])
    c.b.atomic_rmw("add", c.pointer(c.add(job, FINISHED), I64), c.int(1), "seq_cst")
    c.b.branch(take)
    c.b.position_at_end(done)
    c.b.ret_void()
    return f


def define_leave(module: Any, host: Host) -> Any:
    """Defines `leave(job)`: frees the job after its last user."""
    f = ir.Function(module, ir.FunctionType(VOID, [I64]), "leave")
    f.linkage = "internal"
    c = Code(ir.IRBuilder(f.append_basic_block()), host)
    (job,) = f.args
    users = c.b.atomic_rmw("sub", c.pointer(c.add(job, USERS), I64), c.int(1), "seq_cst")
    with c.b.if_then(c.b.icmp_signed("==", users, c.int(1))):
        c.b.call(c.declare("free", VOID, [I64]), [job])
    c.b.ret_void()
    return f


def _define_task(module: Any, host: Host, drain: Any, leave: Any) -> Any:
    """Defines `task(job)`, which XLA's threads run."""
    f = ir.Function(module, ir.FunctionType(VOID, [I64]), "task")
    c = Code(ir.IRBuilder(f.append_basic_block()), host)
    (job,) = f.args
    c.b.call(drain, [job])
    c.b.call(leave, [job])
    c.b.ret_void()
    return f


def define_num_threads(module: Any, host: Host) -> Any:
    """Defines `num_threads(frame)`: the size of XLA's pool, or 1 if there is none."""
    f = ir.Function(module, ir.FunctionType(I64, [I64]), "num_threads")
    f.linkage = "internal"
    c = Code(ir.IRBuilder(f.append_basic_block()), host)
    (frame,) = f.args
    result = c.b.ptrtoint(c.b.alloca(I64), I64)
    c.store_word(1, result)
    context = c.load_word(c.add(frame, 8 * frames.CONTEXT))
    error = frames.call(c, frame, frames.NUM_THREADS, context, result)
    with frames.if_error(c, frame, error):
        c.store_word(1, result)
    c.b.ret(c.load_word(result))
    return f
