"""`native_scan`: a scan whose body is given for one row, compiled to machine code."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.core import Tracer

from jaxrnn._tracing import DependsOn, Equations, evaluate
from jaxrnn.loops.native._compile import register
from jaxrnn.loops.native._host import Host, this_host
from jaxrnn.loops.native._loop import Layout, Signature, define_handler
from jaxrnn.loops.native._nodes import Node, UnsupportedError, build
from jaxrnn.loops.native._stages import Stages, aliases

Leaves = list[Array]
Body = Callable[[Leaves, Leaves, Leaves], tuple[Leaves, Leaves, Leaves]]


def native_scan(
    body: Body, shared: Leaves, state: Leaves, xs: Leaves, *, batch_shape: tuple[int, ...], time: int, reverse: bool
) -> tuple[Leaves, Leaves, Leaves]:
    """Runs `state, ys, increments = body(shared, state, x)` for all rows and steps.

    Args:
      body: The step of one row: arrays of `state` and `x` without batch axes.
      shared: Arrays that all rows and steps read.
      state: Arrays [*batch, ...].
      xs: Arrays [time, *batch, ...].
      batch_shape: The shape of the batch.
      time: The number of steps.
      reverse: Whether the last step is the first.

    Returns:
      The last state, the outputs [time, *batch, ...], and the sums of the increments over steps and rows.
    """
    num = len(batch_shape)
    of_row = [
        [_aval(x.shape, x.dtype) for x in shared],
        [_aval(x.shape[num:], x.dtype) for x in state],
        [_aval(x.shape[1 + num :], x.dtype) for x in xs],
    ]
    program = _program(body, of_row, reverse)
    rows = math.prod(batch_shape)
    shared = program.prepare(shared)
    state = [x.reshape(rows, *x.shape[num:]) for x in state]
    xs = [xs[n].reshape(time, rows, *xs[n].shape[1 + num :]) for n in program.ins]
    outputs = program.call(shared, state, xs, time, rows)
    last, ys, totals = outputs
    last = [x.reshape(*batch_shape, *x.shape[1:]) for x in last]
    ys = [y.reshape(time, *batch_shape, *y.shape[2:]) for y in ys]
    return last, ys, totals


def _aval(shape: Any, dtype: Any) -> Any:
    return jax.ShapeDtypeStruct(shape, dtype)


class Program(NamedTuple):
    """A compiled step."""

    prepare: Callable[[Leaves], Leaves]  # computes what the handler reads of the shared arrays
    ins: list[int]  # which inputs it reads
    target: str
    layout: Layout
    avals: tuple[list[Any], list[Any], list[Any]]  # of one row's state, outputs and increments
    aliases: dict[int, int]  # inputs whose memory an output may take

    def call(self, shared: Leaves, state: Leaves, xs: Leaves, time: int, rows: int) -> tuple[Leaves, Leaves, Leaves]:
        """Runs all steps, for state [rows, ...] and xs [time, rows, ...]."""

        @jax.custom_batching.custom_vmap
        def run(shared: Leaves, state: Leaves, xs: Leaves) -> tuple[Leaves, Leaves, Leaves]:
            return self._call(shared, state, xs, time, rows)

        @run.def_vmap
        def run_batch(size: int, batched: Any, shared: Leaves, state: Leaves, xs: Leaves) -> Any:
            """Merges the new axis with the rows; shared arrays that differ need one call for each of them."""
            if any(jax.tree.leaves(batched[0])) or self.avals[2]:
                return _one_by_one(run, size, batched, (shared, state, xs)), _all_true(self.avals)
            state = [_merge(x, is_batched, size, axis=0) for x, is_batched in zip(state, batched[1], strict=True)]
            xs = [_merge(x, is_batched, size, axis=1) for x, is_batched in zip(xs, batched[2], strict=True)]
            last, ys, totals = self.call(shared, state, xs, time, size * rows)
            last = [x.reshape(size, rows, *x.shape[1:]) for x in last]
            ys = [jnp.moveaxis(y.reshape(time, size, rows, *y.shape[2:]), 1, 0) for y in ys]
            return (last, ys, totals), _all_true(self.avals)

        return run(shared, state, xs)

    def _call(self, shared: Leaves, state: Leaves, xs: Leaves, time: int, rows: int) -> tuple[Leaves, Leaves, Leaves]:
        of_state, of_ys, of_totals = self.avals
        sizes = [[math.prod(aval.shape) for aval in group] for group in self.avals]
        block = self.layout.block(time, rows)
        results = [  # flat, so that an output may take the memory of an input of another shape
            *(_aval((rows, n), aval.dtype) for n, aval in zip(sizes[0], of_state, strict=True)),
            *(_aval((time, rows, n), aval.dtype) for n, aval in zip(sizes[1], of_ys, strict=True)),
            *of_totals,
            _aval((self.layout.size(rows, block),), jnp.uint8),
        ]
        state = [x.reshape(rows, math.prod(x.shape[1:])) for x in state]
        xs = [x.reshape(time, rows, math.prod(x.shape[2:])) for x in xs]
        first = 1 + len(shared) + len(state)
        memory = {first + m: len(of_state) + n for m, n in self.aliases.items()}
        memory = memory if rows > 1 else {}  # members of a team do not read their inputs at the same time
        call = jax.ffi.ffi_call(self.target, results, input_output_aliases=memory)
        *outs, _ = call(np.array([time, rows, block, self.layout.rows(rows)], np.int32), *shared, *state, *xs)
        n, m = len(of_state), len(of_state) + len(of_ys)
        last = [x.reshape(rows, *aval.shape) for x, aval in zip(outs[:n], of_state, strict=True)]
        ys = [y.reshape(time, rows, *aval.shape) for y, aval in zip(outs[n:m], of_ys, strict=True)]
        return last, ys, outs[m:]


def _merge(x: Array, is_batched: bool, size: int, *, axis: int) -> Array:
    """Merges a batch axis in front of an array with its axis of rows."""
    x = x if is_batched else jnp.broadcast_to(x, (size, *x.shape))
    x = jnp.moveaxis(x, 0, axis)
    return x.reshape(*x.shape[:axis], x.shape[axis] * x.shape[axis + 1], *x.shape[axis + 2 :])


def _one_by_one(run: Any, size: int, batched: Any, args: Any) -> Any:
    """Calls `run` for each entry of the batched arguments."""
    leaves, tree = jax.tree.flatten(args)
    flags = jax.tree.leaves(batched)
    varying = [x for x, flag in zip(leaves, flags, strict=True) if flag]

    def one(now: list[Array]) -> Any:
        left = iter(now)
        return run(*tree.unflatten([next(left) if flag else x for x, flag in zip(leaves, flags, strict=True)]))

    return jax.lax.map(one, varying)


def _all_true(avals: Any) -> Any:
    return tuple([True] * len(group) for group in avals)


def can_run(function: Any, shared: Any, x: Any) -> bool:
    """Returns whether `function(shared, x)`, for the `x` of one row, can be a part of a step."""

    def body(shared: Any, state: None, x: Any) -> Any:
        return [], jax.tree.leaves(function(shared, x)), []

    try:
        _Opened(body, [shared, None, x], this_host())
    except UnsupportedError:
        return False
    return True


class _Opened:
    """The body of a loop, divided into stages.

    Attributes:
      stages: Its stages.
      needed: The places of what they read that the parameters determine.
      ins: The indices of the inputs that they read.
      groups: The results of one row: state, outputs and increments.
    """

    def __init__(self, body: Any, of_row: list[Any], host: Host):
        self._traced = traced = Equations(body, *of_row, inline=True)
        kinds = (DependsOn.PARAMETERS, DependsOn.STATE, DependsOn.INPUT)
        of_places, of_equations = traced.dependencies(kinds)
        varies = [d.varies or e.effects for e, d in zip(traced.equations, of_equations, strict=True)]
        self._once = [e for e, flag in zip(traced.equations, varies, strict=True) if not flag]
        in_loop = [e for e, flag in zip(traced.equations, varies, strict=True) if flag]
        read = {p for e in in_loop for p in e.ins}.union(traced.outs)
        self.needed = sorted(p for p in read if not of_places[p].varies and p not in _scalars(traced))

        self.ins = [n for n, place in enumerate(traced.ins[2]) if place in read]

        self.stages = Stages(host)
        nodes: dict[int, Node] = {}
        read_ins = [traced.ins[2][n] for n in self.ins]
        for kind, places in (("shared", self.needed), ("before", traced.ins[1]), ("in", read_ins)):
            for n, place in enumerate(places):
                aval = _aval_of(traced, place)
                node = Node("input", [], {}, aval.shape, str(aval.dtype))
                node.shared = kind == "shared"
                node.slot = self.stages.slot(node.size, node.dtype, 0 if node.shared else None, place=(kind, n))
                nodes[place] = node
        outs = build(traced, in_loop, nodes)
        structure = jax.tree.unflatten(traced.out_tree, range(len(outs)))
        self.groups = [[outs[n] for n in jax.tree.leaves(part)] for part in structure]
        results: list[tuple[Node, Any, bool]] = []
        for kind, group in zip(("after", "out", "total"), self.groups, strict=True):
            for n, node in enumerate(group):
                stride = 0 if kind == "total" else None
                slot = self.stages.slot(node.size, node.dtype, stride, place=(kind, n))
                results.append((node, slot, kind == "total"))
        self.stages.keep(results)

    def prepare(self, shared: Leaves) -> Leaves:
        """Computes what the stages need of the shared arrays."""
        values = {**self._traced.constants, **dict(zip(self._traced.ins[0], shared, strict=True))}
        evaluate(self._once, values)
        return [jnp.asarray(values[p]) for p in self.needed]


def _program(body: Body, of_row: list[list[Any]], reverse: bool) -> Program:
    host = this_host()
    opened = _Opened(body, of_row, host)
    stages, groups = opened.stages, opened.groups
    signature = Signature(len(opened.needed), len(of_row[1]), len(opened.ins), len(groups[1]), len(groups[2]))
    module, layout = define_handler(host, stages, signature, reverse=reverse)
    target = register(str(module), host)
    slots = {slot.place: slot for slot in stages.slots if slot.place}
    ins, ys = ([slots[kind, n] for n in range(count)] for kind, count in (("in", signature.xs), ("out", signature.ys)))
    avals = tuple([_aval(node.shape, node.dtype) for node in group] for group in groups)
    return Program(opened.prepare, opened.ins, target, layout, avals, aliases(stages.stages, stages.phases(), ins, ys))  # type: ignore[arg-type]


def _scalars(traced: Equations) -> set[int]:
    """Returns the places of single numbers that are known at compile time."""
    return {p for p, value in traced.constants.items() if np.size(value) == 1 and not isinstance(value, Tracer)}


def _aval_of(traced: Equations, place: int) -> Any:
    aval = traced.avals[place]
    return jax.typeof(traced.constants[place]) if aval is None else aval


__all__ = ["UnsupportedError", "native_scan"]
