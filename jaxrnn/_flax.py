"""What both flavours of Flax modules share: checks, dtypes, and Flax's conventions around `unroll`."""

from __future__ import annotations

import math
from collections.abc import Callable
from numbers import Integral
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array
from jax.extend.core import Literal

from jaxrnn._unroll import unroll
from jaxrnn.layer import Layer, Loop, Params, State, leading_shape
from jaxrnn.layers._direction import seen_from_the_end
from jaxrnn.ops import is_symbols


def check_layer(owner: type, layer: Any) -> None:
    if not isinstance(layer, Layer):
        hint = f": did you mean {layer.__name__}(...)?" if isinstance(layer, type) else ""
        raise TypeError(f"{owner.__name__} wraps a jaxrnn layer, but it was given {layer!r}{hint}")


def check_size(owner: type, input_size: Any) -> None:
    sizes = input_size if isinstance(input_size, tuple) else (input_size,)
    if not all(isinstance(size, Integral) and not isinstance(size, bool) and int(size) > 0 for size in sizes):
        raise ValueError(
            f"{owner.__name__}'s input_size must be a positive integer (several for several feature axes), "
            f"but it is {input_size!r}"
        )


def check_cell(layer: Layer) -> None:
    if not layer.causal:
        raise TypeError(f"Cell runs one step after the other, but {layer} reads the future: wrap it in RNN")


def cast(tree: Any, dtype: Any) -> Any:
    """Casts real numbers; None leaves all as they are. Symbols and complex numbers stay."""
    if dtype is None:
        return tree
    return jax.tree.map(lambda x: x.astype(dtype) if jnp.issubdtype(x.dtype, jnp.floating) else x, tree)


def depends(function: Callable[[Any], Any], x: Any) -> bool:
    """Whether the values of `function(x)`, not only their shapes and dtypes, depend on `x`."""
    jaxpr = jax.make_jaxpr(function)(x).jaxpr
    read = {atom for atom in jaxpr.outvars if not isinstance(atom, Literal)}
    for eqn in reversed(jaxpr.eqns):
        if not read.isdisjoint(eqn.outvars):
            read |= {atom for atom in eqn.invars if not isinstance(atom, Literal)}
    return not read.isdisjoint(jaxpr.invars)


def run(
    layer: Layer,
    params: Params,
    inputs: Any,
    initial_carry: State | None,
    *,
    seq_lengths: Any,
    resets: Any,
    time_major: bool,
    reverse: bool,
    keep_order: bool,
    key: Array | None,
    loop: Loop | None,
) -> tuple[State, Any]:
    """`unroll` in Flax's conventions: batch before time, and reversed outputs in the order they were made."""
    batch_axes = 0
    if not time_major:
        inputs, resets, batch_axes = _time_first(layer, inputs, resets)
    how = {} if loop is None else {"loop": loop}
    carry, outputs = unroll(
        layer, params, inputs, initial_carry, lengths=seq_lengths, resets=resets, reverse=reverse, key=key, **how
    )
    if reverse and not keep_order:
        outputs = jax.tree.map(lambda y: _flip(y, seq_lengths), outputs)
    return carry, jax.tree.map(lambda y: jnp.moveaxis(y, 0, batch_axes), outputs)


def _time_first(layer: Layer, inputs: Any, resets: Any) -> tuple[Any, Any, int]:
    """Moves the time axis of inputs [*batch, time, features] and resets [*batch, time] to the front."""
    for x in jax.tree.leaves(inputs):
        if x.ndim < 1 + (0 if is_symbols(x) else layer.num_feature_axes):
            raise ValueError(
                "inputs must have the axes [*batch, time, features], or [*batch, time] for symbols, "
                f"but their shape is {x.shape}: add the missing axes"
            )
    shape = leading_shape(layer, inputs)
    if resets is not None:
        if jnp.shape(resets) != shape:
            raise ValueError(f"resets must have the shape [*batch, time] = {shape}, not {jnp.shape(resets)}")
        resets = jnp.moveaxis(jnp.asarray(resets), -1, 0)
    inputs = jax.tree.map(lambda x: jnp.moveaxis(x, len(leading_shape(layer, x)) - 1, 0), inputs)
    return inputs, resets, len(shape) - 1


def _flip(y: Array, lengths: Any) -> Array:
    """Reverses the time axis of `y` [time, *batch, ...] within each length; padding stays at the end."""
    if lengths is None:
        return jnp.flip(y, 0)
    lengths, time = jnp.asarray(lengths), y.shape[0]
    steps = jnp.arange(time).reshape(time, *(1,) * lengths.ndim)
    source = (lengths - 1 - steps) % time  # of a padded step: another padded step, whose output is zero as well
    return jnp.take_along_axis(y, source.reshape(source.shape + (1,) * (y.ndim - source.ndim)), axis=0)


def check_features(cell: Any, inputs: Array, time_major: bool) -> tuple[int, tuple[int, ...]]:
    """The time axis of the inputs of one of Flax's cells, and the shape of one step's."""
    features = cell.num_feature_axes
    if inputs.ndim < 1 + features:
        raise ValueError(
            f"inputs must have the axes [*batch, time, {features} of features], "
            f"but their shape is {inputs.shape}: add the missing axes"
        )
    axis = 0 if time_major else inputs.ndim - features - 1
    return axis, inputs.shape[:axis] + inputs.shape[axis + 1 :]


def other_direction(resets: Any, lengths: Any, time_major: bool) -> Array:
    """Resets, batch-major or time-major as they are given, for the layer that reads the last step first."""
    resets = jnp.asarray(resets) if time_major else jnp.moveaxis(jnp.asarray(resets), -1, 0)
    valid = None
    if lengths is not None:
        valid = jnp.arange(len(resets)).reshape(-1, *(1,) * (resets.ndim - 1)) < jnp.asarray(lengths)
    back = seen_from_the_end(resets, valid)
    assert back is not None
    return back if time_major else jnp.moveaxis(back, 0, -1)


def hide_integers(inputs: Array) -> Array:
    """Integers in floating point, bit for bit: to Flax they are numbers with a feature axis, to `unroll` symbols."""
    if not is_symbols(inputs):
        return inputs
    wide = inputs.dtype.itemsize == 8
    inputs = inputs.astype(jnp.int64 if wide else jnp.int32)
    return jax.lax.bitcast_convert_type(inputs, jnp.float64 if wide else jnp.float32)


def shown_integers(x: Array, dtype: Any) -> Array:
    """What `hide_integers` has made of inputs of that dtype."""
    if not jnp.issubdtype(dtype, jnp.integer):
        return x
    return jax.lax.bitcast_convert_type(x, jnp.int64 if x.dtype.itemsize == 8 else jnp.int32).astype(dtype)


def carry_of(
    begin: Callable[[tuple[int, ...]], State], batch_shape: tuple[int, ...], features: tuple[int, ...]
) -> State:
    """The state that `begin(input_shape)` makes, which may know one batch axis only."""
    count = math.prod(batch_shape)
    return jax.tree.map(lambda s: s.reshape(*batch_shape, *s.shape[1:]), begin((count, *features)))
