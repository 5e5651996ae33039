"""Products of a traced step, written in another way: the same but for rounding, and cheaper in a loop."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxrnn.equations import Equation, Equations


def products_apart(
    traced: Equations, equations: list[Equation], levels: list[int], fixed: int, late: int
) -> list[Equation]:
    """The equations, with `concatenate([x, h]) @ w` as `x @ w_x + h @ w_h`: of these the first need not wait for h.

    `levels` says what places depend on: up to `fixed`, on no more than parameters; `late`, on the state.
    """
    made_by = {e.outs[0]: e for e in equations if e.primitive == "concatenate"}
    rewritten = []
    for e in equations:
        side = _joined_side(e, made_by, levels, fixed, late)
        rewritten.extend([e] if side is None else _apart(traced, e, side, made_by[e.ins[side]], levels, late))
    return rewritten


def products_in_order(traced: Equations, equations: list[Equation], levels: list[int], fixed: int) -> list[Equation]:
    """The equations, with `w @ a` of one vector as `a @ w.T`: of many vectors it is then one product of matrices."""
    rewritten = []
    for e in equations:
        turned = _is_of_a_column(traced, e) and levels[e.ins[0]] <= fixed < levels[e.ins[1]]
        rewritten.extend(_in_order(traced, e) if turned else [e])
    return rewritten


def products_together(traced: Equations, equations: list[Equation], levels: list[int], fixed: int) -> list[Equation]:
    """The equations, with `a @ v` and `a @ w` as parts of one product, `a @ concatenate([v, w])`."""
    groups: dict[Any, list[Equation]] = {}
    for e in equations:
        if e.primitive == "dot_general" and levels[e.ins[0]] > fixed >= levels[e.ins[1]] and _is_plain(traced, e):
            groups.setdefault((e.ins[0], traced.avals[e.outs[0]].dtype, repr(e.params)), []).append(e)
    first = {group[0].outs: group for group in groups.values() if len(group) > 1}
    others = {e.outs for group in first.values() for e in group[1:]}
    return [_together(traced, first[e.outs]) if e.outs in first else e for e in equations if e.outs not in others]


def _joined_side(e: Equation, made_by: dict[int, Equation], levels: list[int], fixed: int, late: int) -> int | None:
    """Which operand of a product is joined of vectors of which only some depend on the state, the other being fixed."""
    if e.primitive != "dot_general":
        return None
    contracted, batched = e.params["dimension_numbers"]
    for side in (0, 1):
        if (join := made_by.get(e.ins[side])) is None or levels[e.ins[1 - side]] > fixed or batched[0]:
            continue
        waits = [levels[p] == late for p in join.ins]
        if tuple(contracted[side]) == (join.params["dimension"],) and any(waits) and not all(waits):
            return side
    return None


def _apart(traced: Equations, e: Equation, side: int, join: Equation, levels: list[int], late: int) -> list[Equation]:
    contracted, _ = e.params["dimension_numbers"]
    axis, w_axis = contracted[side][0], contracted[1 - side][0]
    ends = np.cumsum([0, *(traced.avals[p].shape[axis] for p in join.ins)])

    def product(numbers: list[int]) -> Equation:
        def run(w: Array, *parts: Array) -> list[Array]:
            rows = [jax.lax.slice_in_dim(w, int(ends[n]), int(ends[n + 1]), axis=w_axis) for n in numbers]
            operands = [jnp.concatenate(parts, axis), jnp.concatenate(rows, w_axis)]
            return e.run(*(operands if side == 0 else operands[::-1]))

        ins = (e.ins[1 - side], *(join.ins[n] for n in numbers))
        return e._replace(run=run, ins=ins, outs=(traced.place(traced.avals[e.outs[0]]),), primitive="")

    early = product([n for n, p in enumerate(join.ins) if levels[p] != late])
    waiting = product([n for n, p in enumerate(join.ins) if levels[p] == late])
    both = e._replace(run=lambda a, b: [a + b], ins=(*early.outs, *waiting.outs), primitive="add", params={})
    return [early, waiting, both]


def _is_plain(traced: Equations, e: Equation) -> bool:
    """Whether it is `a @ w` with one vector for each row of `a`."""
    (a, w), ((contracted, w_contracted), batched) = (traced.avals[p] for p in e.ins), e.params["dimension_numbers"]
    return not batched[0] and tuple(contracted) == (a.ndim - 1,) and tuple(w_contracted) == (0,) and w.ndim == 2


def _together(traced: Equations, group: list[Equation]) -> Equation:
    places = [e.ins[1] for e in group]
    ends = np.cumsum([traced.avals[p].shape[1] for p in places])

    def run(a: Array, *ws: Array) -> list[Array]:
        (product,) = group[0].run(a, jnp.concatenate(ws, axis=1))
        return jnp.split(product, [int(end) for end in ends[:-1]], axis=-1)

    outs = tuple(e.outs[0] for e in group)
    return group[0]._replace(run=run, ins=(group[0].ins[0], *places), outs=outs, primitive="")


def _is_of_a_column(traced: Equations, e: Equation) -> bool:
    """Whether it is `w @ a` of one vector."""
    if e.primitive != "dot_general" or e.params["dimension_numbers"] != (((1,), (0,)), ((), ())):
        return False
    w, a = (traced.avals[p] for p in e.ins)
    return (w.ndim, a.ndim) == (2, 1)


def _in_order(traced: Equations, e: Equation) -> list[Equation]:
    dims, w = (((0,), (0,)), ((), ())), traced.avals[e.ins[0]]
    how = {name: e.params[name] for name in ("precision", "preferred_element_type")}
    place = traced.place(w.update(shape=w.shape[::-1]))
    flip = e._replace(run=lambda w: [w.T], ins=e.ins[:1], outs=(place,), primitive="", params={})
    run = lambda a, w: [jax.lax.dot_general(a, w, dims, **how)]  # noqa: E731
    return [flip, e._replace(run=run, ins=(e.ins[1], place), params={**e.params, "dimension_numbers": dims})]
