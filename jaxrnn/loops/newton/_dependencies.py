"""Finds from a traced step which elements of the state each element of the next state depends on.

The Jacobian of a step is mostly zero if the units of a cell do not mix. For every value of the traced step, and for
every leaf of the state that it depends on, `Reads` records which axes of the leaf are kept as axes of the value: along
those, an element of the value depends only on the elements of the leaf with the same index. An elementwise operation, a
broadcast or a transposition keeps an axis; a product with a matrix, a sum or a sort removes it. An operation that is
not known removes all axes, so the Jacobian may have more blocks than necessary, but never fewer.

Leaves that depend on each other form a component. The components are solved in order, each with the states of those
before it as inputs. `MLSTM`, for example, has three small components instead of one large one.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxrnn._tracing import Equation, Equations

ELEMENTWISE = frozenset(
    (
        *("mul", "div", "rem", "pow", "integer_pow", "square", "sqrt", "rsqrt", "cbrt", "abs", "max", "min", "clamp"),
        *("exp", "exp2", "expm1", "log", "log1p", "logistic", "tanh", "sinh", "cosh", "asinh", "acosh", "atanh"),
        *("sin", "cos", "tan", "asin", "acos", "atan", "atan2", "erf", "erfc", "erf_inv", "lgamma", "digamma"),
        *("add", "add_any", "sub", "neg", "select_n", "convert_element_type", "copy", "copy_p", "stop_gradient"),
        *("sign", "floor", "ceil", "round", "is_finite", "nextafter", "reduce_precision", "real", "imag", "conj"),
        *("complex", "eq", "ne", "lt", "le", "gt", "ge", "and", "or", "not", "xor", "pvary", "pcast"),
    )
)
CONSTANT = ("stop_gradient", "sign", "floor", "ceil", "round")  # whose derivative is zero
Axes = dict[int, int]  # axis of a leaf of the state -> the axis of a value along which both have the same index


class Reads(NamedTuple):
    """The leaves of the state that a value depends on.

    Attributes:
      leaves: The leaves that it is computed from.
      slopes: Those of them by which it has a derivative, with the axes that are kept.
    """

    leaves: frozenset[int]
    slopes: dict[int, Axes]

    def along(self, axes: Callable[[int], int | None]) -> Reads:
        """Returns the reads of a value with moved axes: `axes(old)` is the new axis, or None if it is removed."""
        moved = {
            leaf: {a: new for a, old in survive.items() if (new := axes(old)) is not None}
            for leaf, survive in self.slopes.items()
        }
        return Reads(self.leaves, moved)


NOTHING = Reads(frozenset(), {})


def _join(parts: Sequence[Reads]) -> Reads:
    """Returns the reads of a value that is computed from several: an axis is kept if all of them keep it."""
    slopes: dict[int, Axes] = {}
    for part in parts:
        for leaf, axes in part.slopes.items():
            before = slopes.get(leaf, axes)
            slopes[leaf] = {a: n for a, n in axes.items() if before.get(a) == n}
    return Reads(frozenset().union(*(part.leaves for part in parts)), slopes)


def _mixed(part: Reads) -> Reads:
    return part.along(lambda axis: None)


def reads_of_leaf(n: int, aval: Any) -> Reads:
    """Returns the reads of leaf number `n` of the state, of some shape and dtype: itself, with all axes."""
    has_slope = jnp.issubdtype(aval.dtype, jnp.inexact)
    return Reads(frozenset((n,)), {n: {a: a for a in range(aval.ndim)}} if has_slope else {})


def reads_of(e: Equation, ins: list[Reads], traced: Equations, k: int) -> Reads:
    """Returns the reads of output number `k` of an equation, given those of its inputs."""
    aval = traced.avals[e.outs[k]]
    if not any(part.leaves for part in ins):
        return NOTHING
    found = _reads(e, ins, [traced.avals[p].shape for p in e.ins], aval.shape)
    has_slope = jnp.issubdtype(aval.dtype, jnp.inexact) and e.primitive not in CONSTANT
    return found if has_slope else Reads(found.leaves, {})


def _reads_of_step(traced: Equations) -> list[Reads]:
    """Returns the reads of each place of a traced `step(params, leaves, z)`."""
    places = [NOTHING] * len(traced.avals)
    for n, place in enumerate(traced.ins[1]):
        places[place] = reads_of_leaf(n, traced.avals[place])
    for e in traced.equations:
        ins = [places[p] for p in e.ins]
        for k, place in enumerate(e.outs):
            places[place] = reads_of(e, ins, traced, k)
    return places


def _reads(e: Equation, ins: list[Reads], shapes: list[tuple[int, ...]], out: tuple[int, ...]) -> Reads:
    first = ins[0]
    if e.primitive in ELEMENTWISE:
        return _join(ins)
    if e.primitive == "broadcast_in_dim":
        to = e.params["broadcast_dimensions"]
        return first.along(lambda a: to[a] if shapes[0][a] == out[to[a]] else None)
    if e.primitive in ("reshape", "squeeze", "expand_dims"):
        return first.along(lambda a: _axis_after_reshape(shapes[0], out, a))
    if e.primitive == "transpose":
        return first.along(e.params["permutation"].index)
    if e.primitive in (
        "slice",
        "split",
        "dynamic_slice",
        "concatenate",
        "dynamic_update_slice",
    ):  # same size, same place
        same = [part.along(lambda a, s=s: a if s[a] == out[a] else None) for part, s in zip(ins, shapes, strict=True)]
        reads = _join([part for part, s in zip(same, shapes, strict=True) if len(s) == len(out)])
        others = [_mixed(part) for part, s in zip(ins, shapes, strict=True) if len(s) != len(out)]
        return _join([reads, *others])
    if e.primitive in ("rev", "reduce_sum", "reduce_max", "reduce_min", "reduce_prod", "argmax", "argmin"):
        gone = e.params["dimensions" if e.primitive == "rev" else "axes"]
        shift = (lambda a: a) if e.primitive == "rev" else (lambda a: a - sum(b < a for b in gone))
        return _join([part.along(lambda a: None if a in gone else shift(a)) for part in ins])
    if e.primitive in ("cumsum", "cumprod", "cummax", "cummin", "cumlogsumexp"):
        return first.along(lambda a: None if a == e.params["axis"] else a)
    if e.primitive == "dot_general":
        contracted, batched = e.params["dimension_numbers"]
        parts = []
        for n, part in enumerate(ins):
            free = [a for a in range(len(shapes[n])) if a not in (*contracted[n], *batched[n])]
            other_free = len(shapes[1 - n]) - len(contracted[1 - n]) - len(batched[1 - n])
            start = len(batched[n]) + (other_free if n else 0)
            order = {a: i for i, a in enumerate(batched[n])} | {a: start + i for i, a in enumerate(free)}
            parts.append(part.along(order.get))
        return _join(parts)
    return _join([_mixed(part) for part in ins])


def _axis_after_reshape(old: tuple[int, ...], new: tuple[int, ...], axis: int) -> int | None:
    """Returns the axis of the new shape that has the size and the stride of an axis of the old one, if there is one."""
    wanted = math.prod(old[:axis]), old[axis]
    found = (n for n, size in enumerate(new) if (math.prod(new[:n]), size) == wanted)
    return next(found, None)


class Component(NamedTuple):
    """Leaves of the state that depend on each other.

    Attributes:
      leaves: Their indices.
      recurrent: Whether they depend on their own values before the step.
      reads: For each of the leaves, its slopes (see `Reads`) by leaves of the component.
      shapes: The shapes of all leaves of the state, without time and batch axes.
    """

    leaves: tuple[int, ...]
    recurrent: bool
    reads: tuple[dict[int, Axes], ...]
    shapes: tuple[tuple[int, ...], ...]


def components(traced: Equations) -> list[Component]:
    """Returns the components of the state, each after those that it reads."""
    places = _reads_of_step(traced)
    shapes = tuple(traced.avals[p].shape for p in traced.ins[1])
    reads = [places[p] for p in traced.outs]
    reached = [set(part.leaves) | {n} for n, part in enumerate(reads)]
    for _ in reads:
        reached = [set().union(*(reached[m] for m in part)) for part in reached]
    found: list[Component] = []
    for n in sorted(range(len(reads)), key=lambda n: (len(reached[n]), n)):
        if any(n in component.leaves for component in found):
            continue
        leaves = tuple(m for m in range(len(reads)) if reached[m] == reached[n])
        recurrent = any(m in reads[n].leaves for n in leaves for m in leaves)
        slopes = tuple({m: axes for m, axes in reads[n].slopes.items() if m in leaves} for n in leaves)
        found.append(Component(leaves, recurrent, slopes, shapes))
    return found


def trace_step(step: Any, params: Any, leaves: list[Any], z: Any) -> Equations:
    """Traces a step of a single sequence. Only the shapes and dtypes of the arguments are used."""
    avals = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), (params, leaves, z))
    return Equations(step, *avals, inline=True)
