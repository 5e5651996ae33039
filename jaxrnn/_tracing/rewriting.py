"""Rewrites products of a traced step into forms that are equal up to rounding and cheaper in a loop."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxrnn._tracing.equations import DependsOn, Equation, Equations


def split_products(traced: Equations, equations: list[Equation], of_places: list[DependsOn]) -> list[Equation]:
    """Rewrites `concatenate([x, h]) @ w` as `x @ w_x + h @ w_h`; the first product need not wait for h."""
    made_by = {e.outs[0]: e for e in equations if e.primitive == "concatenate"}
    rewritten = []
    for e in equations:
        side = _joined_side(e, made_by, of_places)
        if side is None:
            rewritten.append(e)
        else:
            rewritten.extend(_split(traced, e, side, made_by[e.ins[side]], of_places))
    return rewritten


def turn_products(traced: Equations, equations: list[Equation], of_places: list[DependsOn]) -> list[Equation]:
    """Rewrites `w @ a` for one vector as `a @ w.T`, which for many vectors is a single product of matrices."""
    rewritten = []
    for e in equations:
        if _is_of_a_column(traced, e) and not of_places[e.ins[0]].varies and of_places[e.ins[1]].varies:
            rewritten.extend(_turn(traced, e))
        else:
            rewritten.append(e)
    return rewritten


def join_products(traced: Equations, equations: list[Equation], of_places: list[DependsOn]) -> list[Equation]:
    """Rewrites `a @ v` and `a @ w` as parts of one product, `a @ concatenate([v, w])`."""
    groups: dict[Any, list[Equation]] = {}
    for e in equations:
        is_product = e.primitive == "dot_general" and of_places[e.ins[0]].varies and not of_places[e.ins[1]].varies
        if is_product and _is_plain(traced, e):
            groups.setdefault((e.ins[0], traced.avals[e.outs[0]].dtype, repr(e.params)), []).append(e)
    first = {group[0].outs: group for group in groups.values() if len(group) > 1}
    others = {e.outs for group in first.values() for e in group[1:]}
    return [_join(traced, first[e.outs]) if e.outs in first else e for e in equations if e.outs not in others]


def _joined_side(e: Equation, made_by: dict[int, Equation], of_places: list[DependsOn]) -> int | None:
    """Returns which operand of a product with a parameter joins vectors of which only some depend on the state."""
    if e.primitive != "dot_general":
        return None
    contracted, batched = e.params["dimension_numbers"]
    for side in (0, 1):
        join = made_by.get(e.ins[side])
        if join is None or of_places[e.ins[1 - side]].varies or batched[0]:
            continue
        waits = [of_places[p] == DependsOn.STATE for p in join.ins]
        if tuple(contracted[side]) == (join.params["dimension"],) and any(waits) and not all(waits):
            return side
    return None


def _split(traced: Equations, e: Equation, side: int, join: Equation, of_places: list[DependsOn]) -> list[Equation]:
    contracted, _ = e.params["dimension_numbers"]
    axis, w_axis = contracted[side][0], contracted[1 - side][0]
    ends = np.cumsum([0, *(traced.avals[p].shape[axis] for p in join.ins)])

    def product(numbers: list[int]) -> Equation:
        def run(w: Array, *parts: Array) -> list[Array]:
            rows = [jax.lax.slice_in_dim(w, int(ends[n]), int(ends[n + 1]), axis=w_axis) for n in numbers]
            operands = [jnp.concatenate(parts, axis), jnp.concatenate(rows, w_axis)]
            return e.run(*(operands if side == 0 else operands[::-1]))

        ins = (e.ins[1 - side], *(join.ins[n] for n in numbers))
        return e._replace(run=run, ins=ins, outs=(traced.new_place(traced.avals[e.outs[0]]),), primitive="")

    early = product([n for n, p in enumerate(join.ins) if of_places[p] != DependsOn.STATE])
    late = product([n for n, p in enumerate(join.ins) if of_places[p] == DependsOn.STATE])
    both = e._replace(run=lambda a, b: [a + b], ins=(*early.outs, *late.outs), primitive="add", params={})
    return [early, late, both]


def _is_plain(traced: Equations, e: Equation) -> bool:
    """Returns whether a product is `a @ w` with a matrix w."""
    a, w = (traced.avals[p] for p in e.ins)
    (contracted, w_contracted), (batched, _) = e.params["dimension_numbers"]
    return not batched and tuple(contracted) == (a.ndim - 1,) and tuple(w_contracted) == (0,) and w.ndim == 2


def _join(traced: Equations, group: list[Equation]) -> Equation:
    places = [e.ins[1] for e in group]
    ends = np.cumsum([traced.avals[p].shape[1] for p in places])

    def run(a: Array, *ws: Array) -> list[Array]:
        (product,) = group[0].run(a, jnp.concatenate(ws, axis=1))
        return jnp.split(product, [int(end) for end in ends[:-1]], axis=-1)

    outs = tuple(e.outs[0] for e in group)
    return group[0]._replace(run=run, ins=(group[0].ins[0], *places), outs=outs, primitive="")


def _is_of_a_column(traced: Equations, e: Equation) -> bool:
    """Returns whether a product is `w @ a` for a vector a."""
    if e.primitive != "dot_general" or e.params["dimension_numbers"] != (((1,), (0,)), ((), ())):
        return False
    w, a = (traced.avals[p] for p in e.ins)
    return (w.ndim, a.ndim) == (2, 1)


def _turn(traced: Equations, e: Equation) -> list[Equation]:
    dimensions = (((0,), (0,)), ((), ()))
    w = traced.avals[e.ins[0]]
    options = {name: e.params[name] for name in ("precision", "preferred_element_type")}
    place = traced.new_place(w.update(shape=w.shape[::-1]))

    def transpose(w: Array) -> list[Array]:
        return [w.T]

    def multiply(a: Array, w: Array) -> list[Array]:
        return [jax.lax.dot_general(a, w, dimensions, **options)]

    return [
        e._replace(run=transpose, ins=e.ins[:1], outs=(place,), primitive="", params={}),
        e._replace(run=multiply, ins=(e.ins[1], place), params={**e.params, "dimension_numbers": dimensions}),
    ]
