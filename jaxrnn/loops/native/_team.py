"""A team of threads that runs all steps of a single row together.

Only the columns of a single row's products can be divided. The members of a team wait for each other (`meet`) after
each product. A thread that has joined is running, so such a wait always ends. Threads that have not joined when the
steps begin do not take part.
"""

from __future__ import annotations

from typing import Any

from jaxrnn.loops.native._code import I64, VOID, Code, ir
from jaxrnn.loops.native._host import Host
from jaxrnn.loops.native._threads import BODY, BODY_TYPE, CONTEXT, USERS, allocate, schedule, yield_to_others

# Where a team has its words; the others are where a job has them. MEETING is in another cache line.
JOINED, MEMBERS, FINISHED_OF_TEAM, MEETING, TEAM_SIZE = 0, 8, 16, 64, 128
CLOSED = 2**32  # added to JOINED when no thread may join any more
SPINS = 2_000  # how often a waiting thread looks before it gives way


def define_team(module: Any, host: Host, leave: Any, wait: Any) -> Any:
    """Defines `team(frame, body, context, threads, meeting, patience)`.

    It calls `body(context, member, members)` in several threads at the same time. Before that, it stores at `meeting`
    the address of the counter that members pass to `meet`. It waits for threads to join by giving way up to `patience`
    times, and then begins with those that have joined.
    """
    task = _define_member(module, host, wait, leave)
    f = ir.Function(module, ir.FunctionType(VOID, [I64] * 6), "team")
    f.linkage = "internal"
    c = Code(ir.IRBuilder(f.append_basic_block()), host)
    frame, body, context, threads, meeting, patience = f.args
    job = allocate(c, TEAM_SIZE)
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
    schedule(c, frame, task, leave, job, threads)
    joined = c.pointer(c.add(job, JOINED), I64)
    search, found = f.append_basic_block("search"), f.append_basic_block("found")
    before = c.b.block
    c.b.branch(search)
    c.b.position_at_end(search)
    tries = c.b.phi(I64)
    tries.add_incoming(c.int(0), before)
    following = c.add(tries, 1)
    tries.add_incoming(following, search)
    yield_to_others(c)
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


def define_meet(module: Any, host: Host, wait: Any) -> Any:
    """Defines `meet(meeting, arrivals)`: counts an arrival, and waits until there were `arrivals` in all."""
    f = ir.Function(module, ir.FunctionType(VOID, [I64] * 2), "meet")
    f.linkage = "internal"
    c = Code(ir.IRBuilder(f.append_basic_block()), host)
    meeting, arrivals = f.args
    c.b.atomic_rmw("add", c.pointer(meeting, I64), c.int(1), "seq_cst")
    c.b.call(wait, [meeting, arrivals])
    c.b.ret_void()
    return f


def define_wait(module: Any, host: Host) -> Any:
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
    yield_to_others(c)
    c.b.branch(look)
    c.b.position_at_end(done)
    c.b.ret_void()
    return f
