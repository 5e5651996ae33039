"""`adopt`: makes a cell from any step function."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from dataclasses import KW_ONLY, dataclass
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from jaxrnn import _check as check
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
    """Makes a cell from a step function, which may be your own or come from Flax, Haiku or Equinox.

    The step is traced for one sequence and split into three parts. What needs the input but not the state runs before
    the loop, for all time steps at once. An output that can be computed from the state after the step is computed after
    the loop. Only the rest is in the loop. A product with the input and the state side by side,
    `concatenate([x, h]) @ w`, is split too. Except for rounding, the results are those of `jax.lax.scan` over the
    original step.

    Example:
      >>> def step(params, state, x):  # [batch, ...]
      ...     state = jnp.tanh(jnp.concatenate([x, state], axis=-1) @ params["w"])
      ...     return state, state @ params["out"]
      >>> def initial_state(params, batch_shape):
      ...     return jnp.zeros((*batch_shape, 64))
      >>> cell = jaxrnn.adopt(step, initial_state)
      >>> params = {"w": jnp.ones((8 + 64, 64)), "out": jnp.ones((64, 5))}
      >>> state, ys = jaxrnn.unroll(cell, params, jnp.zeros((20, 32, 8)))  # [time, batch, input]
      >>> ys.shape
      (20, 32, 5)

    Args:
      step: A pure function `(params, state, x) -> (state, y)` of pytrees. Everything in its closure is a constant, so
        arrays that are traced or trained must be in `params`. It may contain control flow, random keys in its state
        (one key per sequence), and effects such as `jax.debug.print`.
      initial_state: A function `(params, batch_shape) -> state`, which returns the state before the first step. The
        shape of each of its arrays begins with `batch_shape`.
      init: A function `(key, input_size) -> params`. None means that you already have parameters and the cell
        cannot draw any.
      batched: True if the arrays that `step` takes and returns have a single batch axis in front, [batch, ...], and the
        sequences of a batch do not affect each other. False if `step` is for a single sequence, without a batch axis.
      num_feature_axes: Number of axes of an input that are features.

    Returns:
      A cell. Two such cells are equal if their functions and options are equal.

    Raises:
      TypeError: An argument has the wrong type. When the cell runs: the step returns something other than a pair of a
        state, with the structure of the one it took, and an output; or it reads traced arrays that are not in `params`.
      ValueError: An argument has the wrong value. When the cell runs: the step changes the shape of its state, or the
        arrays of the initial state do not begin with the batch shape.
    """
    return Adopted(step, initial_state, draw=init, batched=batched, num_feature_axes=num_feature_axes)


@dataclass(frozen=True)
class Adopted(Cell):
    """A cell made by `adopt`, which documents it.

    Args:
      function: The argument `step` of `adopt`.
      first_state: The argument `initial_state` of `adopt`.
      draw: The argument `init` of `adopt`.
      batched: Whether the arrays of `function` have a batch axis.
      num_feature_axes: Number of axes of an input that are features.
    """

    function: Callable[[Params, State, Any], tuple[State, Any]]
    first_state: Callable[[Params, tuple[int, ...]], State]
    _: KW_ONLY
    draw: Callable[[Array, Any], Params] | None = None
    batched: bool = True
    num_feature_axes: int = 1  # type: ignore[misc]

    def __post_init__(self) -> None:
        check.function(self, "function", "first_state")
        if self.draw is not None:
            check.function(self, "draw")
        check.flag(self, "batched")
        check.at_least(self, "num_feature_axes", 0)

    def init(self, key: Array, input_size: Any) -> Params:
        if self.draw is None:
            raise TypeError(f"{self} cannot draw parameters: call adopt with init, or use the parameters that you have")
        return self.draw(key, input_size)

    def initial_state(self, params: Params, batch_shape: tuple[int, ...] = (), dtype: Any = None) -> State:
        state = self.first_state(params, batch_shape)
        for leaf in jax.tree.leaves(state):
            if jnp.shape(leaf)[: len(batch_shape)] != batch_shape:
                raise ValueError(
                    f"the shape of each array of the initial state must begin with the batch shape {batch_shape}, "
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
                f"the output of {self} must depend only on its input and the state after the step if a wrapper changes "
                "this state, but it depends on more: make the step return what the output needs as a part of the state"
            )
        return _over_batch(z.parts.readout, z.parts.batch_shape(state, z.values), params, state, z.values)

    def run(self, params: Params, xs: Any, state: State, key: Array | None, plan: Plan) -> tuple[State, Any]:
        parts = self._parts(params, xs)
        if parts.output_of_state:
            # Outputs keep the dtype that the step gives them.
            return plan.run_loop(self, params, xs, state, key)
        ys = _zeros(parts.y, plan.batch_shape)
        with_output = spread_like((params, xs), (state, ys))
        (state, _), ys = plan.run_loop(_WithOutput(self, parts), params, xs, with_output, key)
        return state, ys

    def _parts(self, params: Params, x: Any) -> StepParts:
        """Splits the step for one sequence; returns the same object for the same shapes and dtypes."""
        num_leading_axes = len(leading_shape(self, x))
        batch_shape = (1,) if self.batched else ()

        def of_one_sequence(params: Params, x: Any) -> tuple[State, Any]:
            x = jax.tree.map(
                lambda leaf: _first(leaf, num_leading_axes).reshape(batch_shape + leaf.shape[num_leading_axes:]), x
            )
            return spread_like((params, x), self.first_state(params, batch_shape)), x

        state, x = jax.eval_shape(of_one_sequence, params, x)
        leaves, tree = jax.tree.flatten(jax.tree.map(jax.typeof, (params, state, x)))
        return split_step(self.function, self.batched, tree, tuple(leaves))


@functools.partial(jax.tree_util.register_dataclass, data_fields=["values"], meta_fields=["parts"])
@dataclass(frozen=True)
class Projected:
    """What `step` and `readout` need of the input."""

    values: list[Array]
    parts: StepParts


@dataclass(frozen=True)
class _WithOutput(Cell):
    """An adopted cell with its output in the state, for outputs that cannot be computed after the loop."""

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
    """Maps `part(params, *args)`, which is for one sequence, over a batch."""
    if not batch_shape:
        return part(params, *args)
    axes, count = len(batch_shape), math.prod(batch_shape)
    flat = jax.tree.map(lambda leaf: leaf.reshape(count, *leaf.shape[axes:]), args)
    out = jax.vmap(part, (None, *(0 for _ in args)))(params, *flat)
    return jax.tree.map(lambda leaf: leaf.reshape(*batch_shape, *leaf.shape[1:]), out)


def _first(x: Array, axes: int) -> Array:
    """Returns the first entry along the leading axes, or zeros if they are empty; only its shape and dtype are used."""
    x = x.reshape(math.prod(x.shape[:axes]), *x.shape[axes:])
    return jnp.concatenate([x, jnp.zeros((1, *x.shape[1:]), x.dtype)])[0]


def _zeros(like: Any, batch_shape: tuple[int, ...]) -> Any:
    """Returns zeros with the structure, shapes and dtypes of `like`, with a batch in front."""
    return jax.tree.map(lambda leaf: jnp.zeros((*batch_shape, *leaf.shape), leaf.dtype), like)
