"""Flax cells in jaxrnn's loops, for both Linen and NNX."""

from __future__ import annotations

import abc
import math
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from jaxrnn._adopt import adopt
from jaxrnn._flax.calls import Options, run
from jaxrnn.layer import Params, State
from jaxrnn.loops import Auto, Deferred, Loop
from jaxrnn.ops import is_symbols


class FlaxCell(abc.ABC):
    """A Flax cell without its variables. It is compared and hashed by value, so that each step is traced only once."""

    num_feature_axes: int

    @abc.abstractmethod
    def step(self, variables: Params, carry: State, x: Array) -> tuple[State, Any]:
        """Runs one step of the cell."""

    @abc.abstractmethod
    def initial_carry(self, variables: Params, input_shape: tuple[int, ...]) -> State:
        """Returns the carry before the first step and after each reset, for one step's input [*batch, *features]."""


def run_cell(
    cell: FlaxCell,
    variables: Params,
    inputs: Array,
    initial_carry: State,
    options: Options,
    *,
    seq_lengths: Any,
    resets: Any,
    mask: Any,
    loop: Loop | None,
    unroll: int,
) -> Any:
    """Runs a Flax cell over time and returns the result in the form that a Flax RNN with these options returns.

    Args:
      cell: The cell.
      variables: The variables of the cell.
      inputs: [*batch, time, *features], or time first with `options.time_major`.
      initial_carry: The carry before the first step.
      options: The options of the call.
      seq_lengths: Integers [*batch].
      resets: Booleans [*batch, time], or time first with `options.time_major`.
      mask: Like `resets`, True where a step is present.
      loop: The loop to use. None means `Auto()`, or `Deferred(unroll=unroll)` if `unroll` is not 1.
      unroll: The number of steps in one iteration of that loop.
    """
    features = inputs.shape[inputs.ndim - cell.num_feature_axes :]
    return run(
        adopt(_Step(cell, inputs.dtype), _InitialState(cell, features), num_feature_axes=cell.num_feature_axes),
        variables,
        _hide_integers(inputs),
        initial_carry,
        options,
        seq_lengths=seq_lengths,
        resets=resets,
        mask=mask,
        loop=loop or (Auto() if unroll == 1 else Deferred(unroll=unroll)),
    )


def time_axis(cell: Any, inputs: Array, options: Options) -> int:
    """Returns the index of the time axis in the inputs of a Flax cell."""
    features = cell.num_feature_axes
    if inputs.ndim < 1 + features:
        raise ValueError(
            f"inputs must have the axes [*batch, time, {features} of features], "
            f"but their shape is {inputs.shape}: add the missing axes"
        )
    return 0 if options.time_major else inputs.ndim - features - 1


def shape_of_step(inputs: Array, axis: int) -> tuple[int, ...]:
    """Returns the shape of one step's input, [*batch, *features]."""
    return inputs.shape[:axis] + inputs.shape[axis + 1 :]


@dataclass(frozen=True)
class _Step:
    """The step that `adopt` takes, for inputs of one dtype."""

    cell: FlaxCell
    dtype: Any

    def __call__(self, variables: Params, carry: State, x: Array) -> tuple[State, Any]:
        return self.cell.step(variables, carry, _show_integers(x, self.dtype))


@dataclass(frozen=True)
class _InitialState:
    """The initial state that `adopt` takes. A Flax cell may support only one batch axis, so the batch is flattened."""

    cell: FlaxCell
    features: tuple[int, ...]

    def __call__(self, variables: Params, batch_shape: tuple[int, ...]) -> State:
        carry = self.cell.initial_carry(variables, (math.prod(batch_shape), *self.features))
        return jax.tree.map(lambda leaf: leaf.reshape(*batch_shape, *leaf.shape[1:]), carry)


def _hide_integers(inputs: Array) -> Array:
    """Reinterprets the bits of integer inputs as floating-point numbers.

    Integer inputs of a Flax cell are numbers with a feature axis, but `unroll` takes integers for symbols, which have
    no feature axis. Floating-point numbers of the same width pass through `unroll` with their bits unchanged, because
    it only moves, masks and slices inputs; `_show_integers` restores the integers inside the step. A conversion by
    value would round large integers. Integers narrower than 32 bits are widened first.
    """
    if not is_symbols(inputs):
        return inputs
    wide = inputs.dtype.itemsize == 8
    inputs = inputs.astype(jnp.int64 if wide else jnp.int32)
    return jax.lax.bitcast_convert_type(inputs, jnp.float64 if wide else jnp.float32)


def _show_integers(x: Array, dtype: Any) -> Array:
    """Undoes `_hide_integers` for inputs whose dtype was `dtype`."""
    if not jnp.issubdtype(dtype, jnp.integer):
        return x
    return jax.lax.bitcast_convert_type(x, jnp.int64 if x.dtype.itemsize == 8 else jnp.int32).astype(dtype)
