"""Flax's calling conventions: the options of a call, and `unroll` with batch axes before the time axis."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from jaxrnn._unroll import unroll
from jaxrnn.layer import Layer, Params, State, leading_shape, num_feature_axes
from jaxrnn.loops import Loop


class Options(NamedTuple):
    """The options of one call of an RNN module."""

    time_major: bool = False
    return_carry: bool = False
    reverse: bool = False
    keep_order: bool = False

    @staticmethod
    def of(module: Any, **call: bool | None) -> Options:
        """Returns the options of a call. An option that is None has the value of the module's attribute."""
        return Options(**{name: getattr(module, name) if value is None else value for name, value in call.items()})

    def result(self, carry: Any, outputs: Any) -> Any:
        return (carry, outputs) if self.return_carry else outputs


def run(
    layer: Layer,
    params: Params,
    inputs: Any,
    initial_carry: State | None,
    options: Options,
    *,
    seq_lengths: Any,
    resets: Any,
    mask: Any,
    loop: Loop | None,
    key: Array | None = None,
) -> Any:
    """Calls `unroll` and returns the result in the form that a Flax RNN with these options returns."""
    batch_axes = 0
    if not options.time_major:
        inputs, resets, mask, batch_axes = _time_first(layer, inputs, resets, mask)
    how: Any = {} if loop is None else {"loop": loop}
    carry, outputs = unroll(
        layer,
        params,
        inputs,
        initial_carry,
        lengths=seq_lengths,
        resets=resets,
        mask=mask,
        reverse=options.reverse,
        key=key,
        **how,
    )
    if options.reverse and not options.keep_order:
        outputs = jax.tree.map(lambda y: _flip(y, seq_lengths), outputs)
    return options.result(carry, jax.tree.map(lambda y: jnp.moveaxis(y, 0, batch_axes), outputs))


def _time_first(layer: Layer, inputs: Any, resets: Any, mask: Any) -> tuple[Any, Any, Any, int]:
    """Moves the time axis of inputs [*batch, time, features], and resets and mask [*batch, time], to the front.

    Returns:
      The inputs, the resets, the mask, and the number of batch axes.
    """
    for x in jax.tree.leaves(inputs):
        if x.ndim < 1 + num_feature_axes(layer, x):
            raise ValueError(
                "inputs must have the axes [*batch, time, features], or [*batch, time] for symbols, "
                f"but their shape is {x.shape}: add the missing axes"
            )
    shape = leading_shape(layer, inputs)

    def move(name: str, value: Any) -> Any:
        if value is None:
            return None
        if jnp.shape(value) != shape:
            raise ValueError(f"{name} must have the shape [*batch, time] = {shape}, not {jnp.shape(value)}")
        return jnp.moveaxis(jnp.asarray(value), -1, 0)

    inputs = jax.tree.map(lambda x: jnp.moveaxis(x, len(leading_shape(layer, x)) - 1, 0), inputs)
    return inputs, move("resets", resets), move("mask", mask), len(shape) - 1


def _flip(y: Array, lengths: Any) -> Array:
    """Reverses the time axis of `y` [time, *batch, ...] within each length; padding stays at the end."""
    if lengths is None:
        return jnp.flip(y, 0)
    lengths, time = jnp.asarray(lengths), y.shape[0]
    steps = jnp.arange(time).reshape(time, *(1,) * lengths.ndim)
    source = (lengths - 1 - steps) % time  # padding is taken from padding, where outputs are zero
    return jnp.take_along_axis(y, source.reshape(source.shape + (1,) * (y.ndim - source.ndim)), axis=0)
