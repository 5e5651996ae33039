"""One call of a layer: its arguments are checked and converted here, for `unroll` and other functions that run a layer.

Values are checked outside `jit`, in `given`. Shapes and dtypes are checked once for each compilation, in `checked`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.core import Tracer

from jaxrnn._check import described, did_you_mean
from jaxrnn._diagnosis import (
    as_array,
    check_key,
    check_kind,
    check_leaves,
    check_number_of_keys,
    check_parameters,
    explained,
    is_key,
    reads_integers_as_features,
    refusing_complex,
)
from jaxrnn._keys import as_keys
from jaxrnn._kinds import discards
from jaxrnn._time_axis import first_step, num_parts
from jaxrnn.layer import Layer, Loop, Params, Plan, State, num_feature_axes
from jaxrnn.ops import is_symbols, spread_like, where


class Given(NamedTuple):
    """The arguments of a call, as arrays. Those of `unroll` say what they mean."""

    params: Params
    xs: Any
    state: State | None
    lengths: Array | None
    resets: Array | None
    mask: Array | None
    key: Array | None


class Inputs(NamedTuple):
    """What a call reads over time."""

    xs: Any
    lengths: Array | None
    resets: Array | None
    key: Array | None
    first: Any  # the index in the whole sequence of the first step of this device
    time: int
    batch_shape: tuple[int, ...]


class Call(NamedTuple):
    """The arguments of `Layer.run`."""

    params: Params
    xs: Any
    state: State
    key: Array | None
    lengths: Array | None
    valid: Array | None
    resets: Array | None

    def run(self, layer: Layer, loop: Loop, reverse: bool, batch_shape: tuple[int, ...]) -> tuple[State, Any]:
        plan = Plan(loop, reverse, self.lengths, self.valid, self.resets, batch_shape, axis_name=loop.axis_name)
        return layer.run(self.params, self.xs, self.state, self.key, plan)


def given(
    layer: Layer,
    params: Params,
    xs: Any,
    state: State | None = None,
    *,
    lengths: Any = None,
    resets: Any = None,
    mask: Any = None,
    reverse: bool = False,
    key: Array | None = None,
    axis_name: str | None = None,
) -> Given:
    """Returns the arguments as arrays. Their kinds and values are checked here, outside `jit`."""
    if not isinstance(layer, Layer):
        raise TypeError(f"layer must be a jaxrnn layer, but it is {described(layer)}{did_you_mean(layer)}")
    if not isinstance(reverse, bool):
        raise TypeError(f"reverse must be True or False, but it is {reverse!r}: it cannot be traced")
    check_key(key)
    xs = inputs("xs", xs)
    lengths = _given_lengths(lengths, xs, num_parts(axis_name))
    resets = None if resets is None else as_array("resets", resets)
    check_leaves("params", params)
    check_leaves("state", state)
    mask = None if mask is None else as_array("mask", mask)
    return Given(params, xs, state, lengths, resets, mask, key)


def checked(layer: Layer, given: Given, axis_name: str | None = None) -> Inputs:
    """Returns what a call reads over time. Shapes and dtypes are checked here, once for each compilation.

    Args:
      layer: The layer.
      given: The arguments of the call.
      axis_name: The mesh axis over which time is sharded. The lengths of the whole sequences become those of the part
        of this device.
    """
    xs = jax.tree.map(jnp.asarray, given.xs)
    time, batch_shape = _time_and_batch(layer, xs)
    check_parameters(layer, given.params, xs)
    _check_features(layer, given.params, xs)
    check_number_of_keys(given.key, batch_shape)
    key = None if given.key is None else as_keys(given.key)
    lengths = _lengths(given.lengths, time * num_parts(axis_name), batch_shape)
    first = first_step(axis_name, time)
    if lengths is not None and axis_name is not None:
        lengths = jnp.clip(lengths - first, 0, time)
    resets = None if given.resets is None else booleans("resets", given.resets, (time, *batch_shape))
    return Inputs(xs, lengths, resets, key, first, time, batch_shape)


def prepared(layer: Layer, params: Params, state: State | None, inputs: Inputs) -> Call:
    """Returns the arguments of `Layer.run`: the state to begin with, and inputs that are zero in the padding."""
    xs, lengths, resets, key, first, time, batch_shape = inputs
    valid = None if lengths is None else jnp.arange(time).reshape(time, *(1,) * len(batch_shape)) < lengths[None]
    with explained(layer, params, xs):
        state = _state(layer, params, state, batch_shape)
    call = Call(params, xs, state, key, lengths, valid, resets)
    call = spread_like((call, first), call)
    if call.valid is not None:  # mask the inputs too, because 0 * NaN in a gradient is NaN
        zeros = jax.tree.map(lambda x: jnp.zeros((), x.dtype), call.xs)
        call = call._replace(xs=where(call.valid, call.xs, zeros))
    return call


def run_explained(layer: Layer, run: Callable[[Call], Any], call: Call) -> Any:
    """Returns `run(call)`. Its errors say which argument caused them."""

    def run_with(params: Params, xs: Any, state: State) -> Any:
        return run(call._replace(params=params, xs=xs, state=state))

    params, xs, state, *_ = call
    with explained(layer, params, xs), refusing_complex(layer, run_with, params, xs, state):
        return run(call)


def inputs(name: str, xs: Any) -> Any:
    """Returns the inputs as arrays. A list is refused: it may be one of time steps, of features or of numbers."""
    if isinstance(xs, list):
        what = "jnp.stack" if any(hasattr(x, "shape") for x in xs) else "jnp.asarray"
        raise TypeError(f"{name} must be an array, but it is a list of {len(xs)}: write {what}({name})")
    leaves, structure = jax.tree.flatten(xs)
    if not leaves:
        raise TypeError(f"{name} must be an array or a pytree of arrays, but it is {xs!r}")
    return jax.tree.unflatten(structure, [as_array(name, leaf) for leaf in leaves])


def _time_and_batch(layer: Layer, xs: Any) -> tuple[int, tuple[int, ...]]:
    """Returns the length and the batch shape that all leaves of the inputs must share."""
    shapes = set()
    for x in jax.tree.leaves(xs):
        check_kind("xs", x)
        features = num_feature_axes(layer, x)
        if x.ndim < 1 + features:
            axes = f"time, *batch, {features} of features" if features else "time, *batch"
            raise ValueError(f"xs must have the axes [{axes}], but its shape is {x.shape}: add the missing axes")
        shapes.add(x.shape[: x.ndim - features])
    if len(shapes) != 1:
        raise ValueError(
            f"all inputs must share one [time, *batch], but they have {sorted(shapes)}: "
            "give xs as arrays [time, *batch, features] or integers [time, *batch]"
        )
    time, *batch_shape = shapes.pop()
    return time, tuple(batch_shape)


def _check_features(layer: Layer, params: Params, xs: Any) -> None:
    """Refuses integers that look like features, because they would be read as symbols with one more batch axis."""
    if isinstance(xs, Array) and is_symbols(xs) and reads_integers_as_features(layer, params, xs.shape):
        size = xs.shape[-1]
        raise TypeError(
            f"xs are integers of shape {xs.shape}, whose last axis is the input size of {layer}: "
            f"write xs.astype(jnp.float32) if they are features, or jax.nn.one_hot(xs, {size}) if they are symbols"
        )


def _given_lengths(lengths: Any, xs: Any, num_parts: int) -> Array | None:
    """Returns the lengths as an array, once their values are checked. Traced values are clipped, see `_lengths`."""
    if lengths is None:
        return None
    lengths = as_array("lengths", lengths)
    time = jax.tree.leaves(xs)[0].shape[:1]
    if time and is_symbols(lengths) and not isinstance(lengths, Tracer):
        values, all_steps = np.asarray(lengths), time[0] * num_parts
        if ((values < 0) | (values > all_steps)).any():
            raise ValueError(
                f"lengths must be between 0 and the size of the time axis, {all_steps}, but they are {lengths}"
            )
    return lengths


def _lengths(lengths: Array | None, time: int, batch_shape: tuple[int, ...]) -> Array | None:
    if lengths is None:
        return None
    lengths = jnp.asarray(lengths)
    if not is_symbols(lengths):
        raise TypeError(f"lengths must be integers, but their dtype is {lengths.dtype}")
    if lengths.shape != batch_shape:
        hint = ": is the batch axis first? xs must be [time, *batch, ...]" if lengths.shape == (time,) else ""
        message = f"lengths must have the batch shape {batch_shape} of xs, but their shape is {lengths.shape}{hint}"
        raise ValueError(message)
    if lengths.dtype.itemsize < 4:  # so narrow an integer may not be able to represent `time`
        lengths = lengths.astype(jnp.int32)
    return jnp.clip(lengths, 0, time).astype(int)  # signed and wide, so that layers can compute with lengths


def booleans(name: str, value: Any, shape: tuple[int, ...]) -> Array:
    if (value := jnp.asarray(value)).dtype != bool:
        raise TypeError(f"{name} must be booleans, but the dtype is {value.dtype}")
    if value.shape != shape:
        raise ValueError(f"{name} must have the shape [time, *batch] = {shape}, not {value.shape}")
    return value


def _state(layer: Layer, params: Params, state: State | None, batch_shape: tuple[int, ...]) -> State:
    if state is None:
        return layer.initial_state(params, batch_shape)
    expected = jax.eval_shape(lambda p: layer.initial_state(p, batch_shape), params)
    if jax.tree.structure(state) != jax.tree.structure(expected):
        shapes, wanted = (jax.tree.map(np.shape, tree) for tree in (state, expected))
        given = (
            "a random key: write key=key"
            if is_key(state)
            else f"an array {shapes}"
            if hasattr(state, "shape")
            else shapes
        )
        raise TypeError(
            f"state must have the structure of layer.initial_state(params, {batch_shape}), {wanted}, but it is {given}"
        )
    state = jax.tree.map(jnp.asarray, state)
    shapes, wanted = ([leaf.shape for leaf in jax.tree.leaves(tree)] for tree in (state, expected))
    if shapes != wanted:
        raise ValueError(
            f"state must have the shapes {wanted} of layer.initial_state(params, {batch_shape}), but it has {shapes}"
        )
    dtypes, wanted = ([str(leaf.dtype) for leaf in jax.tree.leaves(tree)] for tree in (state, expected))
    leaves = zip(jax.tree.leaves(expected), jax.tree.leaves(state), strict=True)
    if any(discards(leaf.dtype, given.dtype) for leaf, given in leaves):
        raise TypeError(
            f"state must hold numbers of the kinds {wanted} of layer.initial_state(params, {batch_shape}), "
            f"but its dtypes are {dtypes}: cast it"
        )
    return state
