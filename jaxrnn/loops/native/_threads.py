"""Divides a call among XLA's own threads.

A call with several rows is divided into slices of the rows (`define_parallel`). The calling thread takes slices from a
counter like all other threads, so that it can finish alone if no other thread is free. Threads that start too late find
no slice left. The last thread to leave frees the job, which is the memory that the threads share.

In a call with a single row, only the columns of its products can be divided. A team of threads runs all steps together,
and its members wait for each other (`meet`) after each product (`define_team`). A thread that has joined is running, so
such a wait always ends. Threads that have not joined when the steps begin do not take part.
"""

from __future__ import annotations

from typing import Any

from jaxrnn.loops.native import _call_frame as frames
from jaxrnn.loops.native._code import I32, I64, VOID, Code, ir
from jaxrnn.loops.native._host import Host

NEXT, FINISHED, SLICES, USERS, BODY, CONTEXT, JOB_SIZE = 0, 8, 16, 24, 32, 40, 48
BODY_TYPE = ir.FunctionType(VOID, [I64, I64, I64])  # (context, slice, slices)


def define_parallel(module: Any, host: Host) -> Any:
    """Defines `parallel(frame, body, context, slices)`: calls `body(context, slice, slices)` for each slice."""
    malloc = ir.Function(module, ir.FunctionType(I64, [I64]), "malloc")
    free = ir.Function(module, ir.FunctionType(VOID, [I64]), "free")
    give_way = ir.Function(module, ir.FunctionType(I32, []), "sched_yield")
    drain = _define_drain(module, host)
    leave = _define_leave(module, host, free)
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
    job = c.b.call(malloc, [c.int(JOB_SIZE)])
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
    _schedule(c, frame, task, leave, job, slices)
    c.b.call(drain, [job])
    c.b.branch(wait)
    c.b.position_at_end(wait)
    finished = c.b.load_atomic(c.pointer(c.add(job, FINISHED), I64), "seq_cst", 8)
    yielding, left = f.append_basic_block("yielding"), f.append_basic_block("left")
    c.b.cbranch(c.b.icmp_signed("<", finished, slices), yielding, left)
    c.b.position_at_end(yielding)
    c.b.call(give_way, [])
    c.b.branch(wait)
    c.b.position_at_end(left)
    c.b.call(leave, [job])
    c.b.branch(done)
    c.b.position_at_end(done)
    c.b.ret_void()
    return f


def _schedule(c: Code, frame: Any, task: Any, leave: Any, job: Any, users: Any) -> None:
    """Schedules `task(job)` on XLA's threads, once for each user of the job but this thread."""
    arguments = c.b.ptrtoint(c.b.alloca(ir.ArrayType(I64, 5)), I64)
    with c.loop(1, users):
        for offset, value in (
            (0, 40),
            (8, 0),
            (16, c.load_word(c.add(frame, 8 * frames.CONTEXT))),
            (24, c.b.ptrtoint(task, I64)),
            (32, job),
        ):
            c.store_word(value, c.add(arguments, offset))
        schedule = c.pointer(frames.function(c, frame, frames.SCHEDULE), ir.FunctionType(I64, [I64]))
        error = c.b.call(schedule, [arguments])
        with c.b.if_then(c.b.icmp_unsigned("!=", error, c.int(0))):  # not scheduled: the other threads do all the work
            c.b.call(leave, [job])
            for offset, value in ((0, 24), (8, 0), (16, error)):
                c.store_word(value, c.add(arguments, offset))
            destroy = c.pointer(frames.function(c, frame, frames.DESTROY_ERROR), ir.FunctionType(VOID, [I64]))
            c.b.call(destroy, [arguments])


# Where a team has its words; the others are where a job has them. MEETING is in another cache line.
JOINED, MEMBERS, FINISHED_OF_TEAM, MEETING, TEAM_SIZE = 0, 8, 16, 64, 128
CLOSED = 2**32  # added to JOINED when no thread may join any more
SPINS = 2_000  # how often a waiting thread looks before it gives way


def define_team(module: Any, host: Host) -> Any:
    """Defines `team(frame, body, context, threads, meeting, patience)`.

    It calls `body(context, member, members)` in several threads at the same time. Before that, it stores at `meeting`
    the address of the counter that members pass to `meet`. It waits for threads to join by giving way up to `patience`
    times, and then begins with those that have joined.
    """
    malloc, leave = module.globals["malloc"], module.globals["leave"]
    wait = _define_wait(module, host)
    task = _define_member(module, host, wait, leave)
    f = ir.Function(module, ir.FunctionType(VOID, [I64] * 6), "team")
    f.linkage = "internal"
    c = Code(ir.IRBuilder(f.append_basic_block()), host)
    frame, body, context, threads, meeting, patience = f.args
    job = c.b.call(malloc, [c.int(TEAM_SIZE)])
    with c.b.if_then(c.b.icmp_unsigned("==", job, c.int(0))):  # no memory: alone
        number = c.b.ptrtoint(c.b.alloca(I64), I64)
        c.store_word(0, number)
        c.store_word(number, meeting)
        c.b.call(c.pointer(body, BODY_TYPE), [context, c.int(0), c.int(1)])
        c.b.ret_void()
    for offset, value in (
        (JOINED, 1),
        (MEMBERS, 0),
        (FINISHED_OF_TEAM, 1),
        (USERS, threads),
        (BODY, body),
        (CONTEXT, context),
        (MEETING, 0),
    ):
        c.store_word(value, c.add(job, offset))
    c.store_word(c.add(job, MEETING), meeting)
    _schedule(c, frame, task, leave, job, threads)
    joined = c.pointer(c.add(job, JOINED), I64)
    search, found = f.append_basic_block("search"), f.append_basic_block("found")
    before = c.b.block
    c.b.branch(search)
    c.b.position_at_end(search)
    tries = c.b.phi(I64)
    tries.add_incoming(c.int(0), before)
    following = c.add(tries, 1)
    tries.add_incoming(following, search)
    c.b.call(module.globals["sched_yield"], [])
    complete = c.b.icmp_signed(">=", c.b.load_atomic(joined, "seq_cst", 8), threads)
    c.b.cbranch(c.b.or_(complete, c.b.icmp_signed(">", tries, patience)), found, search)
    c.b.position_at_end(found)
    members = c.b.atomic_rmw("add", joined, c.int(CLOSED), "seq_cst")
    c.b.store_atomic(members, c.pointer(c.add(job, MEMBERS), I64), "seq_cst", 8)
    c.b.call(c.pointer(body, BODY_TYPE), [context, c.int(0), members])
    c.b.call(wait, [c.add(job, FINISHED_OF_TEAM), members])
    c.b.call(leave, [job])
    c.b.ret_void()
    return f


def _define_member(module: Any, host: Host, wait: Any, leave: Any) -> Any:
    """Defines `member(job)`, which XLA's threads run: joins the team of a job, unless it has begun."""
    f = ir.Function(module, ir.FunctionType(VOID, [I64]), "member")
    c = Code(ir.IRBuilder(f.append_basic_block()), host)
    (job,) = f.args
    index = c.b.atomic_rmw("add", c.pointer(c.add(job, JOINED), I64), c.int(1), "seq_cst")
    with c.b.if_then(c.b.icmp_signed("<", index, c.int(CLOSED))):
        c.b.call(wait, [c.add(job, MEMBERS), c.int(1)])
        members = c.load_word(c.add(job, MEMBERS))
        body = c.pointer(c.load_word(c.add(job, BODY)), BODY_TYPE)
        c.b.call(body, [c.load_word(c.add(job, CONTEXT)), index, members])
        c.b.atomic_rmw("add", c.pointer(c.add(job, FINISHED_OF_TEAM), I64), c.int(1), "seq_cst")
    c.b.call(leave, [job])
    c.b.ret_void()
    return f


def define_meet(module: Any, host: Host) -> Any:
    """Defines `meet(meeting, arrivals)`: counts an arrival, and waits until there were `arrivals` in all."""
    wait = module.globals["wait"]
    f = ir.Function(module, ir.FunctionType(VOID, [I64] * 2), "meet")
    f.linkage = "internal"
    c = Code(ir.IRBuilder(f.append_basic_block()), host)
    meeting, arrivals = f.args
    c.b.atomic_rmw("add", c.pointer(meeting, I64), c.int(1), "seq_cst")
    c.b.call(wait, [meeting, arrivals])
    c.b.ret_void()
    return f


def _define_wait(module: Any, host: Host) -> Any:
    """Defines `wait(address, value)`: waits until the number at the address is at least `value`."""
    f = ir.Function(module, ir.FunctionType(VOID, [I64] * 2), "wait")
    f.linkage = "internal"
    c = Code(ir.IRBuilder(f.append_basic_block()), host)
    address, value = f.args
    look, again, give_way, done = (f.append_basic_block(n) for n in ("look", "again", "give_way", "done"))
    before = c.b.block
    c.b.branch(look)
    c.b.position_at_end(look)
    tries = c.b.phi(I64)
    tries.add_incoming(c.int(0), before)
    reached = c.b.icmp_signed(">=", c.b.load_atomic(c.pointer(address, I64), "seq_cst", 8), value)
    c.b.cbranch(reached, done, again)
    c.b.position_at_end(again)
    following = c.add(tries, 1)
    tries.add_incoming(following, again)
    c.b.cbranch(c.b.icmp_signed(">", tries, c.int(SPINS)), give_way, look)
    c.b.position_at_end(give_way)
    tries.add_incoming(following, give_way)
    c.b.call(module.globals["sched_yield"], [])
    c.b.branch(look)
    c.b.position_at_end(done)
    c.b.ret_void()
    return f


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


def _define_leave(module: Any, host: Host, free: Any) -> Any:
    """Defines `leave(job)`: frees the job after its last user."""
    f = ir.Function(module, ir.FunctionType(VOID, [I64]), "leave")
    f.linkage = "internal"
    c = Code(ir.IRBuilder(f.append_basic_block()), host)
    (job,) = f.args
    users = c.b.atomic_rmw("sub", c.pointer(c.add(job, USERS), I64), c.int(1), "seq_cst")
    with c.b.if_then(c.b.icmp_signed("==", users, c.int(1))):
        c.b.call(free, [job])
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
    arguments = c.b.ptrtoint(c.b.alloca(ir.ArrayType(I64, 5)), I64)
    result = c.add(arguments, 32)
    for offset, value in ((0, 32), (8, 0), (16, c.load_word(c.add(frame, 8 * frames.CONTEXT))), (24, result), (32, 1)):
        c.store_word(value, c.add(arguments, offset))
    ask = c.pointer(frames.function(c, frame, frames.NUM_THREADS), ir.FunctionType(I64, [I64]))
    error = c.b.call(ask, [arguments])
    with c.b.if_then(c.b.icmp_unsigned("!=", error, c.int(0))):
        for offset, value in ((0, 24), (8, 0), (16, error)):
            c.store_word(value, c.add(arguments, offset))
        destroy = c.pointer(frames.function(c, frame, frames.DESTROY_ERROR), ir.FunctionType(VOID, [I64]))
        c.b.call(destroy, [arguments])
        c.store_word(1, result)
    c.b.ret(c.load_word(result))
    return f
