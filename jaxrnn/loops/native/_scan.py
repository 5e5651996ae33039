"""`native_scan`: a scan whose body is given for one row, compiled to machine code.

It also defines how this scan is differentiated, by `lax.scan`, and mapped by `jax.vmap`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.core import Tracer

from jaxrnn._tracing import DependsOn, Equations, evaluate
from jaxrnn.loops.native._compile import register
from jaxrnn.loops.native._host import this_host
from jaxrnn.loops.native._loop import Layout, Signature, define_handler
from jaxrnn.loops.native._nodes import Node, UnsupportedError, build
from jaxrnn.loops.native._stages import Stages, aliases
from jaxrnn.ops import spread_like

Leaves = list[Array]
Body = Callable[[Leaves, Leaves, Leaves], tuple[Leaves, Leaves, Leaves]]


def native_scan(
    body: Body, shared: Leaves, state: Leaves, xs: Leaves, *, batch_shape: tuple[int, ...], time: int, reverse: bool
) -> tuple[Leaves, Leaves, Leaves]:
    """Runs `state, ys, increments = body(shared, state, x)` for all rows and steps.

    Its derivative is that of `lax.scan`. It is used only for second derivatives, because `DeferredGradient` runs the
    backward pass as another native scan.

    Args:
      body: The step of one row, whose `state` and `x` have no batch axes.
      shared: Arrays that are the same for all rows and steps, such as weights.
      state: Arrays [*batch, ...].
      xs: Arrays [time, *batch, ...].
      batch_shape: The shape of the batch.
      time: The number of steps.
      reverse: Whether to run the last step first.

    Returns:
      The last state, the outputs [time, *batch, ...], and the sums of the increments over steps and rows.
    """
    num = len(batch_shape)
    rows = math.prod(batch_shape)
    step = Opened(body, _of_row(shared, state, xs, num), reverse)
    program = _compiled(step)
    closed = {p: value for p, value in step.traced.constants.items() if isinstance(value, Tracer)}

    @jax.custom_vjp
    def run(closed: dict[int, Array], shared: Leaves, state: Leaves, xs: Leaves) -> tuple[Leaves, Leaves, Leaves]:
        return program.call(step.prepare(closed, shared), state, [xs[n] for n in step.ins], time, rows)

    def backward(saved: Any, cotangents: Any) -> Any:
        _, pull = jax.vjp(partial(_as_scan, step, time=time), *saved)
        return pull(cotangents)

    run.defvjp(lambda *args: (run(*args), args), backward)
    state = [x.reshape(rows, *x.shape[num:]) for x in state]
    xs = [x.reshape(time, rows, *x.shape[1 + num :]) for x in xs]
    last, ys, totals = run(closed, shared, state, xs)
    last = [x.reshape(*batch_shape, *x.shape[1:]) for x in last]
    ys = [y.reshape(time, *batch_shape, *y.shape[2:]) for y in ys]
    return last, ys, totals


def scan_of_zeros(
    body: Body, shared: Leaves, state: Leaves, xs: Leaves, *, batch_shape: tuple[int, ...], time: int, reverse: bool
) -> tuple[Leaves, Leaves, Leaves]:
    """Returns zeros in the shapes of what `native_scan` returns, and raises the same errors. It compiles nothing."""
    step = Opened(body, _of_row(shared, state, xs, len(batch_shape)), reverse)
    leading = (batch_shape, (time, *batch_shape), ())
    return tuple(
        [jnp.zeros((*axes, *aval.shape), aval.dtype) for aval in avals]
        for axes, avals in zip(leading, step.avals, strict=True)
    )  # type: ignore[return-value]


def _of_row(shared: Leaves, state: Leaves, xs: Leaves, batch_axes: int) -> list[list[Any]]:
    """Returns the types of one row's arguments."""
    leading = (0, batch_axes, 1 + batch_axes)
    return [
        [like(x, x.shape[axes:], x.dtype) for x in leaves]
        for axes, leaves in zip(leading, (shared, state, xs), strict=True)
    ]


def _as_scan(
    step: Opened, closed: dict[int, Array], shared: Leaves, state: Leaves, xs: Leaves, *, time: int
) -> tuple[Leaves, Leaves, Leaves]:
    """Runs all steps by `lax.scan`, for state [rows, ...] and xs [time, rows, ...]."""

    def one(state: Leaves, x: Leaves) -> tuple[Leaves, Leaves, Leaves]:
        return step.evaluate(closed, shared, state, x)

    def body(state: Leaves, x: Leaves) -> tuple[Leaves, Any]:
        state, ys, increments = jax.vmap(one)(state, x)
        return state, (ys, [i.sum(0) for i in increments])

    last, (ys, increments) = jax.lax.scan(body, state, xs, length=time, reverse=step.reverse)
    return last, ys, [i.sum(0) for i in increments]


def like(tree: Any, shape: tuple[int, ...], dtype: Any) -> Any:
    """Returns the type of an array that, inside `jax.shard_map`, varies over the mesh axes of the leaves of `tree`."""
    return jax.eval_shape(lambda tree: spread_like(tree, jnp.zeros(shape, dtype)), tree)


class Program(NamedTuple):
    """A compiled step."""

    target: str
    layout: Layout
    avals: tuple[list[Any], list[Any], list[Any]]  # of one row's state, outputs and increments
    aliases: dict[int, int]  # from inputs to the outputs that may take their memory

    def call(self, shared: Leaves, state: Leaves, xs: Leaves, time: int, rows: int) -> tuple[Leaves, Leaves, Leaves]:
        """Runs all steps, for state [rows, ...] and xs [time, rows, ...]."""

        @jax.custom_batching.custom_vmap
        def run(shared: Leaves, state: Leaves, xs: Leaves) -> tuple[Leaves, Leaves, Leaves]:
            return self._call(shared, state, xs, time, rows)

        @run.def_vmap
        def run_batch(size: int, batched: Any, shared: Leaves, state: Leaves, xs: Leaves) -> Any:
            """Merges the new axis with the rows, or makes one call for each entry if weights or increments differ."""
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
        shapes = [  # flat, so that an output may take the memory of an input of another shape
            *(((rows, n), aval.dtype) for n, aval in zip(sizes[0], of_state, strict=True)),
            *(((time, rows, n), aval.dtype) for n, aval in zip(sizes[1], of_ys, strict=True)),
            *((aval.shape, aval.dtype) for aval in of_totals),
            ((self.layout.size(rows, block),), jnp.uint8),
        ]
        results = [like((shared, state, xs), shape, dtype) for shape, dtype in shapes]
        state = [x.reshape(rows, math.prod(x.shape[1:])) for x in state]
        xs = [x.reshape(time, rows, math.prod(x.shape[2:])) for x in xs]
        first = 1 + len(shared) + len(state)
        memory = {first + m: len(of_state) + n for m, n in self.aliases.items()}
        memory = memory if rows > 1 else {}  # one member of a team may overwrite what another has not read yet
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


class Opened:
    """The body of a loop, divided into stages but not compiled.

    Attributes:
      host: The processor.
      traced: The equations of the body.
      stages: Its stages.
      needed: The places of values that the stages read and that depend on parameters alone.
      ins: The indices of the inputs that the stages read.
      groups: The nodes of one row's results: state, outputs and increments.
      reverse: Whether to run the last step first.
    """

    def __init__(self, body: Any, of_row: list[Any], reverse: bool = False):
        self.host, self.reverse = this_host(), reverse
        self.traced = traced = Equations(body, *of_row, inline=True)
        kinds = (DependsOn.PARAMETERS, DependsOn.STATE, DependsOn.INPUT)
        of_places, of_equations = traced.dependencies(kinds)
        varies = [d.varies or e.effects for e, d in zip(traced.equations, of_equations, strict=True)]
        self._once = [e for e, flag in zip(traced.equations, varies, strict=True) if not flag]
        in_loop = [e for e, flag in zip(traced.equations, varies, strict=True) if flag]
        read = {p for e in in_loop for p in e.ins}.union(traced.outs)
        self.needed = sorted(p for p in read if not of_places[p].varies and p not in _scalars(traced))
        self.ins = [n for n, place in enumerate(traced.ins[2]) if place in read]

        self.stages = Stages(self.host)
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

    @property
    def avals(self) -> tuple[list[Any], list[Any], list[Any]]:
        """The types of one row's state, outputs and increments."""
        return tuple([jax.ShapeDtypeStruct(node.shape, node.dtype) for node in group] for group in self.groups)  # type: ignore[return-value]

    def prepare(self, closed: dict[int, Array], shared: Leaves) -> Leaves:
        """Returns the values of `needed`, computed by XLA from the shared arrays."""
        values = self._values(closed, shared)
        evaluate(self._once, values)
        return [jnp.asarray(values[p]) for p in self.needed]

    def evaluate(self, closed: dict[int, Array], *args: Leaves) -> tuple[Leaves, Leaves, Leaves]:
        """Returns state, outputs and increments of one row, computed by JAX."""
        values = self._values(closed, *args)
        evaluate(self.traced.equations, values)
        return jax.tree.unflatten(self.traced.out_tree, [values[p] for p in self.traced.outs])

    def _values(self, closed: dict[int, Array], *args: Leaves) -> dict[int, Any]:
        values = {**self.traced.constants, **closed}
        for places, leaves in zip(self.traced.ins, args, strict=False):
            values.update(zip(places, leaves, strict=True))
        return values


def can_run(function: Any, shared: Any, x: Any) -> bool:
    """Returns whether `function(shared, x)`, for the `x` of one row, can be compiled."""

    def body(shared: Any, state: None, x: Any) -> Any:
        return [], jax.tree.leaves(function(shared, x)), []

    try:
        Opened(body, [shared, None, x])
    except UnsupportedError:
        return False
    return True


def _compiled(step: Opened) -> Program:
    stages, groups = step.stages, step.groups
    num_states = len(step.traced.ins[1])
    signature = Signature(len(step.needed), num_states, len(step.ins), len(groups[1]), len(groups[2]))
    module, layout = define_handler(step.host, stages, signature, reverse=step.reverse)
    slots = {slot.place: slot for slot in stages.slots if slot.place}
    ins, ys = ([slots[kind, n] for n in range(count)] for kind, count in (("in", signature.xs), ("out", signature.ys)))
    in_place = aliases(stages.stages, stages.phases(), ins, ys)
    return Program(register(str(module), step.host), layout, step.avals, in_place)


def _scalars(traced: Equations) -> set[int]:
    """Returns the places of constants that are single numbers; they become part of the code."""
    return {p for p, value in traced.constants.items() if np.size(value) == 1 and not isinstance(value, Tracer)}


def _aval_of(traced: Equations, place: int) -> Any:
    aval = traced.avals[place]
    return jax.typeof(traced.constants[place]) if aval is None else aval


__all__ = ["UnsupportedError", "can_run", "like", "native_scan", "scan_of_zeros"]
