"""`native_scan`: a scan whose body is given for one row, compiled to machine code."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxrnn._tracing import DependsOn, Equations, evaluate
from jaxrnn.loops.native._compile import register
from jaxrnn.loops.native._host import Host, this_host
from jaxrnn.loops.native._loop import Layout, Signature, define_handler
from jaxrnn.loops.native._nodes import Node, UnsupportedError, build
from jaxrnn.loops.native._stages import Stages

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
    xs = [x.reshape(time, rows, *x.shape[1 + num :]) for x in xs]
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
    target: str
    layout: Layout
    avals: tuple[list[Any], list[Any], list[Any]]  # of one row's state, outputs and increments

    def call(self, shared: Leaves, state: Leaves, xs: Leaves, time: int, rows: int) -> tuple[Leaves, Leaves, Leaves]:
        of_state, of_ys, of_totals = self.avals
        results = [
            *(_aval((rows, *a.shape), a.dtype) for a in of_state),
            *(_aval((time, rows, *a.shape), a.dtype) for a in of_ys),
            *of_totals,
            _aval((self.layout.size(rows),), jnp.uint8),
        ]
        sizes = np.array([time, rows], np.int32)
        call = jax.ffi.ffi_call(self.target, results, vmap_method="sequential")
        *outs, _ = call(sizes, *shared, *state, *xs)
        n, m = len(of_state), len(of_state) + len(of_ys)
        return outs[:n], outs[n:m], outs[m:]


def _program(body: Body, of_row: list[list[Any]], reverse: bool, host: Host | None = None) -> Program:
    traced = Equations(body, *of_row, inline=True)
    kinds = (DependsOn.PARAMETERS, DependsOn.STATE, DependsOn.INPUT)
    of_places, of_equations = traced.dependencies(kinds)
    once = [e for e, d in zip(traced.equations, of_equations, strict=True) if not d.varies and not e.effects]
    in_loop = [e for e, d in zip(traced.equations, of_equations, strict=True) if d.varies or e.effects]
    read = {p for e in in_loop for p in e.ins}
    needed = sorted(p for p in read.union(traced.outs) if not of_places[p].varies and p not in _scalars(traced))

    stages = Stages(host or this_host())
    nodes: dict[int, Node] = {}

    def input_node(place: int, kind: str, n: int, stride: int | None = None) -> None:
        aval = _aval_of(traced, place)
        node = Node("input", [], {}, aval.shape, str(aval.dtype))
        node.shared = kind == "shared"
        node.slot = stages.slot(node.size, node.dtype, stride, place=(kind, n))
        nodes[place] = node

    for n, place in enumerate(needed):
        input_node(place, "shared", n, stride=0)
    for n, place in enumerate(traced.ins[1]):
        input_node(place, "before", n)
    for n, place in enumerate(traced.ins[2]):
        input_node(place, "in", n)
    outs = build(traced, in_loop, nodes)
    structure = jax.tree.unflatten(traced.out_tree, range(len(outs)))
    groups = [[outs[n] for n in jax.tree.leaves(part)] for part in structure]
    avals = [[_aval(node.shape, node.dtype) for node in group] for group in groups]
    kept: list[tuple[Node, Any, bool]] = []
    for kind, group in zip(("after", "out", "total"), groups, strict=True):
        for n, node in enumerate(group):
            stride = 0 if kind == "total" else None
            kept.append((node, stages.slot(node.size, node.dtype, stride, place=(kind, n)), kind == "total"))
    for node, _, _ in kept:
        stages.visit_parts(node)
    for node, slot, accumulate in kept:
        if node.size:
            stages.put(node, slot, accumulate=accumulate)

    signature = Signature(len(needed), len(traced.ins[1]), len(traced.ins[2]), len(groups[1]), len(groups[2]))
    module, layout = define_handler(host or this_host(), stages, signature, reverse=reverse)
    target = register(str(module), host or this_host())

    def prepare(shared: Leaves) -> Leaves:
        values = {**traced.constants, **dict(zip(traced.ins[0], shared, strict=True))}
        evaluate(once, values)
        return [jnp.asarray(values[p]) for p in needed]

    return Program(prepare, target, layout, tuple(avals))  # type: ignore[arg-type]


def _scalars(traced: Equations) -> set[int]:
    """Returns the places of single numbers that are known at compile time."""
    return {
        p for p, value in traced.constants.items() if np.size(value) == 1 and not isinstance(value, jax.core.Tracer)
    }


def _aval_of(traced: Equations, place: int) -> Any:
    aval = traced.avals[place]
    return jax.typeof(traced.constants[place]) if aval is None else aval


__all__ = ["UnsupportedError", "native_scan"]
