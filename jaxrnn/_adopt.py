"""`adopt`: anybody's step function as a cell."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from jaxrnn._tracing import StepParts, split_step
from jaxrnn.layer import Cell, Keys, Params, Plan, State, leading_shape
from jaxrnn.ops import spread_like


def adopt(
    step: Callable[[Params, State, Any], tuple[State, Any]],
    initial_state: Callable[[Params, tuple[int, ...]], State],
    init: Callable[[Array, Any], Params] | None = None,
    *,
    batched: bool = True,
    num_feature_axes: int = 1,
) -> Cell:
    """A cell made of a step function: of Flax, Haiku or Equinox, or your own.

    The step is traced, for one sequence, and taken apart: what needs the input but not the state is done for all time
    steps at once, before the loop; an output that can be made of the state after the step, after it. A product with
    the input and the state side by side, `concatenate([x, h]) @ w`, is taken apart too. What is left is the loop. The
    results are those of `jax.lax.scan` over the original, but for rounding.

    Args:
      step: a pure function `(params, state, x) -> (state, y)` of pytrees. Whatever stands in its closure is a constant,
        so arrays that are traced or trained belong in `params`. It may have control flow, random keys in its state (a
        key for each sequence), and effects such as `jax.debug.print`.
      initial_state: `(params, batch_shape) -> state`, the state before the first step, each array of it
        [*batch_shape, ...].
      init: `(key, input_size) -> params`; None: there are parameters already, and the cell cannot draw any.
      batched: the arrays that `step` takes and returns have one batch axis in front, [batch, ...], and no sequence
        of a batch has to do with another; False: `step` is of one sequence and knows no batch.
      num_feature_axes: how many axes of an input are features.

    Returns:
      A cell. Two are equal if their functions are.

    Raises:
      TypeError: on running it, if `step` is not such a function.
    """
    return Adopted(step, initial_state, init, batched, num_feature_axes)


@dataclass(frozen=True)
class Adopted(Cell):
    """See `adopt`."""

    function: Callable[[Params, State, Any], tuple[State, Any]]
    first_state: Callable[[Params, tuple[int, ...]], State]
    draw: Callable[[Array, Any], Params] | None = None
    batched: bool = True
    num_feature_axes: int = 1  # type: ignore[misc]

    def init(self, key: Array, input_size: Any) -> Params:
        if self.draw is None:
            raise TypeError(f"{self} cannot draw parameters: call adopt with init, or take the parameters you have")
        return self.draw(key, input_size)

    def initial_state(self, params: Params, batch_shape: tuple[int, ...] = (), dtype: Any = None) -> State:
        state = self.first_state(params, batch_shape)
        for leaf in jax.tree.leaves(state):
            if jnp.shape(leaf)[: len(batch_shape)] != batch_shape:
                raise ValueError(
                    f"each array of the initial state must begin with the batch shape {batch_shape}, "
                    f"but one has the shape {jnp.shape(leaf)}"
                )
        if dtype is None:
            return state
        return jax.tree.map(lambda s: s.astype(dtype) if jnp.issubdtype(s.dtype, jnp.floating) else s, state)

    def project(self, params: Params, x: Any, key: Keys = None) -> Projected:
        parts, batch_shape = self._parts(params, x), leading_shape(self, x)
        return Projected(_over_batch(parts.project, batch_shape, params, x), parts)

    def step(self, params: Params, state: State, z: Projected) -> State:
        return _over_batch(z.parts.step, z.parts.batch_shape(state, z.values), params, state, z.values)[0]

    def readout(self, params: Params, state: State, z: Projected) -> Any:
        if not z.parts.output_of_state:
            raise TypeError(
                f"the output of {self} is made of more than its input and the state after the step, so that a wrapper "
                "cannot change this state: let the step return what the output is made of as a part of the state"
            )
        return _over_batch(z.parts.readout, z.parts.batch_shape(state, z.values), params, state, z.values)

    def run(self, params: Params, xs: Any, state: State, key: Array | None, plan: Plan) -> tuple[State, Any]:
        parts = self._parts(params, xs)  # outputs are of the dtype that the step gives them
        if parts.output_of_state:
            return plan.loop(self, params, plan.steps(xs, key), state)
        ys = _zeros(parts.y, plan.batch_shape)
        with_output = spread_like((params, xs), (state, ys))
        (state, _), ys = plan.loop(_WithOutput(self, parts), params, plan.steps(xs, key), with_output)
        return state, ys

    def _parts(self, params: Params, x: Any) -> StepParts:
        """The step for one sequence, taken apart: the same object for the same shapes and dtypes."""
        axes, front = len(leading_shape(self, x)), (1,) if self.batched else ()

        def one(params: Params, x: Any) -> tuple[State, Any]:
            x = jax.tree.map(lambda leaf: _first(leaf, axes).reshape(front + leaf.shape[axes:]), x)
            return spread_like((params, x), self.first_state(params, front)), x

        state, x = jax.eval_shape(one, params, x)
        leaves, tree = jax.tree.flatten(jax.tree.map(jax.typeof, (params, state, x)))
        return split_step(self.function, self.batched, tree, tuple(leaves))


@functools.partial(jax.tree_util.register_dataclass, data_fields=["values"], meta_fields=["parts"])
@dataclass(frozen=True)
class Projected:
    """What a step and its output need of the input."""

    values: list[Array]
    parts: StepParts


@dataclass(frozen=True)
class _WithOutput(Cell):
    """An adopted cell with its output in the state, where nothing less would do."""

    cell: Adopted
    parts: StepParts

    @property
    def num_feature_axes(self) -> int:  # type: ignore[override]
        return self.cell.num_feature_axes

    def init(self, key: Array, input_size: Any) -> Params:
        return self.cell.init(key, input_size)

    def initial_state(self, params: Params, batch_shape: tuple[int, ...] = (), dtype: Any = None) -> State:
        state = self.cell.initial_state(params, batch_shape, dtype)
        return spread_like((params, state), (state, _zeros(self.parts.y, batch_shape)))

    def project(self, params: Params, x: Any, key: Keys = None) -> Projected:
        return self.cell.project(params, x)

    def step(self, params: Params, state: State, z: Projected) -> State:
        state, _ = state
        return _over_batch(z.parts.step, z.parts.batch_shape(state, z.values), params, state, z.values)

    def readout(self, params: Params, state: State, z: Projected) -> Any:
        return state[1]


def _over_batch(part: Callable[..., Any], batch_shape: tuple[int, ...], params: Params, *args: Any) -> Any:
    """`part(params, *args)` of one sequence, for all of a batch."""
    if not batch_shape:
        return part(params, *args)
    axes, count = len(batch_shape), math.prod(batch_shape)
    flat = jax.tree.map(lambda leaf: leaf.reshape(count, *leaf.shape[axes:]), args)
    out = jax.vmap(part, (None, *(0 for _ in args)))(params, *flat)
    return jax.tree.map(lambda leaf: leaf.reshape(*batch_shape, *leaf.shape[1:]), out)


def _first(x: Array, axes: int) -> Array:
    """The first along some leading axes, though they be empty; for its shape and dtype."""
    x = x.reshape(math.prod(x.shape[:axes]), *x.shape[axes:])
    return jnp.concatenate([x, jnp.zeros((1, *x.shape[1:]), x.dtype)])[0]


def _zeros(like: Any, batch_shape: tuple[int, ...]) -> Any:
    return jax.tree.map(lambda leaf: jnp.zeros((*batch_shape, *leaf.shape), leaf.dtype), like)
