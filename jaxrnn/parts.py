"""A step in three parts: what needs no state, the state after it, the output."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array
from jax.core import Tracer

from jaxrnn.equations import Equation, Equations, evaluate
from jaxrnn.rewriting import products_apart, products_in_order, products_together

Params = Any
State = Any

PARAMETER, INPUT, STATE = 1, 2, 3  # what a value depends on; 0: nothing


@functools.lru_cache(maxsize=512)
def take_apart(function: Callable[..., Any], batched: bool, tree: Any, leaves: tuple[Any, ...]) -> Parts:
    return Parts(function, batched, tree.unflatten(leaves))


class Parts:
    """`step(params, state, x) -> (state, y)` of one sequence in three parts, made of its equations.

    Attributes:
      output_of_state: whether the output can be made of the state after the step (and of the input).
      y: the shape and dtype of one sequence's output.
    """

    def __init__(self, function: Callable[..., Any], batched: bool, args: Any):
        traced = Equations(function, *args)
        _check(traced, args)
        equations = _rewritten(traced)
        (self._params, self._states, self._xs), self._constants = traced.ins, traced.constants
        places, levels = _levels(traced, equations)
        leveled = list(zip(equations, levels, strict=True))
        count, self._batched = len(self._states), batched
        self._state_outs, self._y_outs = traced.outs[:count], traced.outs[count:]
        self._state_tree, self._y_tree = traced.out_tree.children()
        self._ndims = [traced.avals[p].ndim - batched for p in self._states]

        self._fixed = [e for e, level in leveled if level <= PARAMETER]
        late = [e for e, level in leveled if level == STATE]
        self._after = _needed([e for e in late if not e.effects], self._y_outs, known=self._state_outs)
        read = {p for e in self._after for p in e.ins}.union(self._y_outs).difference(self._state_outs)
        self.output_of_state = read.isdisjoint(self._states)
        outs = self._state_outs if self.output_of_state else traced.outs
        self._step = _needed(late, outs)
        read = {p for e in [*self._step, *self._after] for p in e.ins}.union(traced.outs)
        self._values = [p for p in sorted(read) if places[p] == INPUT]
        self._value_ndims = [traced.avals[p].ndim for p in self._values]
        self._early = _needed([e for e, level in leveled if level == INPUT], self._values)
        one = [jax.ShapeDtypeStruct(a.shape[batched:], a.dtype) for a in (traced.avals[p] for p in self._y_outs)]
        self.y = self._y_tree.unflatten(one)

    def project(self, params: Params, x: Any) -> list[Array]:
        values = self._begin(params)
        values |= dict(zip(self._xs, self._in(x), strict=True))
        evaluate(self._early, values)
        return [values[p] for p in self._values]

    def step(self, params: Params, state: State, projected: list[Array]) -> tuple[State, Any]:
        """The state after the step, and the output if it must be known now."""
        values = self._begin(params, projected)
        values |= dict(zip(self._states, self._in(state), strict=True))
        evaluate(self._step, values)
        state = self._out(self._state_tree, self._state_outs, values)
        return state, None if self.output_of_state else self._out(self._y_tree, self._y_outs, values)

    def readout(self, params: Params, state: State, projected: list[Array]) -> Any:
        values = self._begin(params, projected)
        values |= dict(zip(self._state_outs, self._in(state), strict=True))
        evaluate(self._after, values)
        return self._out(self._y_tree, self._y_outs, values)

    def batch_shape(self, state: State, projected: list[Array]) -> tuple[int, ...]:
        """The axes before those of one sequence."""
        leaves, ndims = [*jax.tree.leaves(state), *projected], [*self._ndims, *self._value_ndims]
        return next((leaf.shape[: leaf.ndim - ndim] for leaf, ndim in zip(leaves, ndims, strict=True)), ())

    def _begin(self, params: Params, projected: list[Array] | None = None) -> dict[int, Any]:
        values = {**self._constants, **dict(zip(self._params, jax.tree.leaves(params), strict=True))}
        evaluate(self._fixed, values)
        return values | dict(zip(self._values, projected or (), strict=projected is not None))

    def _in(self, tree: Any) -> list[Array]:
        return [leaf[None] if self._batched else leaf for leaf in jax.tree.leaves(tree)]

    def _out(self, tree: Any, places: list[int], values: dict[int, Any]) -> Any:
        leaves = [jnp.asarray(values[p]) for p in places]
        return tree.unflatten([leaf[0] if self._batched else leaf for leaf in leaves])


def _check(traced: Equations, args: Any) -> None:
    if any(isinstance(value, Tracer) for value in traced.constants.values()):
        raise TypeError(
            "the adopted step reads traced arrays that are not among its arguments, "
            "so that no gradient could reach them: hand them in as a part of params"
        )
    parts = traced.out_tree.children()
    if traced.out_tree.node_data() is None or traced.out_tree.node_data()[0] is not tuple or len(parts) != 2:
        raise TypeError(f"the adopted step must return (state, y), but it returned {traced.out_tree}")
    expected = jax.tree.structure(args[1])
    if parts[0] != expected:
        raise TypeError(
            f"the state that the adopted step returns must have the structure of the one it took, {expected}, "
            f"but it has {parts[0]}"
        )
    for before, place in zip(traced.ins[1], traced.outs, strict=False):
        old, new = traced.avals[before], traced.avals[place]
        if new is not None and new.shape != old.shape:
            raise ValueError(
                f"the state that the adopted step returns must keep its shapes, but {old.shape} became {new.shape}"
            )


def _levels(traced: Equations, equations: list[Equation]) -> tuple[list[int], list[int]]:
    return traced.levels((PARAMETER, STATE, INPUT), lambda e, level: STATE if e.effects else level, equations)


def _needed(equations: list[Equation], outs: Iterable[int], known: Iterable[int] = ()) -> list[Equation]:
    """Those of the equations, in their order, that make `outs`, or have effects, where some values are known."""
    wanted, known, needed = set(outs).difference(known), set(known), []
    for e in reversed(equations):
        if e.effects or not wanted.isdisjoint(e.outs):
            needed.append(e)
            wanted.update(set(e.ins) - known)
    return needed[::-1]


def _rewritten(traced: Equations) -> list[Equation]:
    """The equations with their products such that as few as can be are in the loop."""
    places, _ = _levels(traced, traced.equations)
    equations = products_apart(traced, traced.equations, places, PARAMETER, STATE)
    places, _ = _levels(traced, equations)
    equations = products_in_order(traced, equations, places, PARAMETER)
    places, _ = _levels(traced, equations)
    return products_together(traced, equations, places, PARAMETER)
