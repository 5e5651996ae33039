"""A whole step in three parts: what needs no state, the state after the step, and the output."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array
from jax.core import Tracer

from jaxrnn._tracing.equations import DependsOn, Equation, Equations, evaluate
from jaxrnn._tracing.rewriting import join_products, split_products, turn_products

Params = Any
State = Any


@functools.lru_cache(maxsize=512)
def split_step(function: Callable[..., Any], batched: bool, tree: Any, leaves: tuple[Any, ...]) -> StepParts:
    """Returns `StepParts`, the same object for the same function and the same shapes and dtypes."""
    return StepParts(function, batched, tree.unflatten(leaves))


class StepParts:
    """`step(params, state, x) -> (state, y)` for one sequence, split into three parts.

    Args:
      function: The step.
      batched: Whether its arrays have a batch axis, here of size 1.
      args: Avals of `(params, state, x)`.

    Attributes:
      output_of_state: Whether the output can be computed from the state after the step (and the input).
      y: The shape and dtype of one sequence's output.
    """

    def __init__(self, function: Callable[..., Any], batched: bool, args: Any):
        traced = Equations(function, *args)
        _check(traced, args, batched)
        equations = _rewrite(traced)
        (self._params, self._states, self._xs), self._constants = traced.ins, traced.constants
        of_places, of_equations = _dependencies(traced, equations)
        sorted_equations = list(zip(equations, of_equations, strict=True))
        num_states, self._batched = len(self._states), batched
        self._state_outs, self._y_outs = traced.outs[:num_states], traced.outs[num_states:]
        self._state_tree, self._y_tree = traced.out_tree.children()
        self._ndims = [traced.avals[p].ndim - batched for p in self._states]

        self._once = [e for e, depends_on in sorted_equations if not depends_on.varies]
        of_state = [e for e, depends_on in sorted_equations if depends_on == DependsOn.STATE]
        without_effects = [e for e in of_state if not e.effects]
        self._after_loop = _needed(without_effects, self._y_outs, known=self._state_outs)
        read = {p for e in self._after_loop for p in e.ins}.union(self._y_outs).difference(self._state_outs)
        self.output_of_state = read.isdisjoint(self._states)
        self._in_loop = _needed(of_state, self._state_outs if self.output_of_state else traced.outs)
        read = {p for e in [*self._in_loop, *self._after_loop] for p in e.ins}.union(traced.outs)
        self._projected = [p for p in sorted(read) if of_places[p] == DependsOn.INPUT]
        if not self._states and not self._projected:
            self._projected = self._xs[:1]  # something must have the batch axes
        self._projected_ndims = [traced.avals[p].ndim for p in self._projected]
        of_input = [e for e, depends_on in sorted_equations if depends_on == DependsOn.INPUT]
        self._before_loop = _needed(of_input, self._projected)
        y_avals = [traced.avals[p] for p in self._y_outs]
        self.y = self._y_tree.unflatten([jax.ShapeDtypeStruct(a.shape[batched:], a.dtype) for a in y_avals])

    def project(self, params: Params, x: Any) -> list[Array]:
        """Returns all values that need the input but not the state."""
        values = self._begin(params)
        values |= dict(zip(self._xs, self._in(x), strict=True))
        evaluate(self._before_loop, values)
        return [values[p] for p in self._projected]

    def step(self, params: Params, state: State, projected: list[Array]) -> tuple[State, Any]:
        """Returns the state after the step, and the output if it cannot be computed later."""
        values = self._begin(params, projected)
        values |= dict(zip(self._states, self._in(state), strict=True))
        evaluate(self._in_loop, values)
        state = self._out(self._state_tree, self._state_outs, values)
        return state, None if self.output_of_state else self._out(self._y_tree, self._y_outs, values)

    def readout(self, params: Params, state: State, projected: list[Array]) -> Any:
        """Returns the output, given the state after the step."""
        values = self._begin(params, projected)
        values |= dict(zip(self._state_outs, self._in(state), strict=True))
        evaluate(self._after_loop, values)
        return self._out(self._y_tree, self._y_outs, values)

    def batch_shape(self, state: State, projected: list[Array]) -> tuple[int, ...]:
        """Returns the axes in front of those of one sequence."""
        leaves, ndims = [*jax.tree.leaves(state), *projected], [*self._ndims, *self._projected_ndims]
        return next((leaf.shape[: leaf.ndim - ndim] for leaf, ndim in zip(leaves, ndims, strict=True)), ())

    def _begin(self, params: Params, projected: list[Array] | None = None) -> dict[int, Any]:
        values = {**self._constants, **dict(zip(self._params, jax.tree.leaves(params), strict=True))}
        evaluate(self._once, values)
        return values | dict(zip(self._projected, projected or (), strict=projected is not None))

    def _in(self, tree: Any) -> list[Array]:
        return [leaf[None] if self._batched else leaf for leaf in jax.tree.leaves(tree)]

    def _out(self, tree: Any, places: list[int], values: dict[int, Any]) -> Any:
        leaves = [jnp.asarray(values[p]) for p in places]
        return tree.unflatten([leaf[0] if self._batched else leaf for leaf in leaves])


def _check(traced: Equations, args: Any, batched: bool) -> None:
    if any(isinstance(value, Tracer) for value in traced.constants.values()):
        raise TypeError(
            "the adopted step reads traced arrays that are not among its arguments, "
            "so that no gradient could reach them: pass them as a part of params"
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
        if new.shape != old.shape:
            raise ValueError(
                f"the state that the adopted step returns must keep its shapes, but {old.shape} became {new.shape}"
            )
    for place in traced.outs[len(traced.ins[1]) :]:
        if batched and traced.avals[place].shape[:1] != (1,):
            raise ValueError(
                "each array of the output of the adopted step must begin with the batch axis, [batch, ...], "
                f"but one has the shape {traced.avals[place].shape} for a batch of one sequence"
            )


def _dependencies(traced: Equations, equations: list[Equation]) -> tuple[list[DependsOn], list[DependsOn]]:
    """Returns what places and equations depend on; equations with effects must stay in the loop."""
    kinds = (DependsOn.PARAMETERS, DependsOn.STATE, DependsOn.INPUT)
    return traced.dependencies(kinds, lambda e, kind: DependsOn.STATE if e.effects else kind, equations)


def _needed(equations: list[Equation], outs: Iterable[int], known: Iterable[int] = ()) -> list[Equation]:
    """Returns, in order, the equations that compute `outs` from what is known, and those with effects."""
    wanted, known, needed = set(outs).difference(known), set(known), []
    for e in reversed(equations):
        if e.effects or not wanted.isdisjoint(e.outs):
            needed.append(e)
            wanted.update(set(e.ins) - known)
    return needed[::-1]


def _rewrite(traced: Equations) -> list[Equation]:
    """Rewrites products so that as few as possible are in the loop."""
    equations = traced.equations
    for rewrite in (split_products, turn_products, join_products):
        of_places, _ = _dependencies(traced, equations)
        equations = rewrite(traced, equations, of_places)
    return equations
