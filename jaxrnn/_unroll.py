"""`unroll`, `states_over_time` and `step`, through which every layer runs, and where arguments are checked."""

from __future__ import annotations

from typing import Any, cast

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.core import Tracer
from jax.sharding import PartitionSpec

from jaxrnn._all_states import AllStates
from jaxrnn._cache import is_hashable
from jaxrnn._check import described, did_you_mean
from jaxrnn._diagnosis import (
    as_array,
    check_leaves,
    check_parameters,
    explained,
    is_key,
    reads_integers_as_features,
)
from jaxrnn._mask import gather_present, scatter_present
from jaxrnn.layer import Layer, Loop, Params, Plan, State, num_feature_axes
from jaxrnn.loops import Auto, Scan
from jaxrnn.loops._reverse_only import translated_error
from jaxrnn.ops import is_symbols, spread_like, where


def unroll(
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
    loop: Loop = Auto(),
) -> tuple[State, Any]:
    """Runs a layer over time.

    Example:
      >>> layer = jaxrnn.Stack(jaxrnn.LSTM(64), jaxrnn.Dense(10))
      >>> params = layer.init(jax.random.key(0), input_size=8)
      >>> xs = jnp.zeros((20, 2, 8))  # [time, batch, input]
      >>> state, ys = jaxrnn.unroll(layer, params, xs, lengths=jnp.array([20, 13]))
      >>> ys.shape
      (20, 2, 10)

    Args:
      layer: A cell or any other layer.
      params: Its parameters, from `layer.init`.
      xs: Inputs [time, *batch, features], with any number of batch axes or none. Integers [time, *batch] are symbols
        and give the same result as their one-hot vectors; a symbol out of range gives NaN. A layer that takes several
        inputs takes a pytree of such arrays.
      state: The state before the first step; None means `layer.initial_state`. It keeps its dtype.
      lengths: Integers [*batch] from 0 to time. From its length on, a sequence's state stays unchanged and its
        output is zero. Padding values, even NaN and Inf, never affect outputs or gradients.
      resets: Booleans [time, *batch]. True at t means that a new sequence begins at t in time, so no state passes
        between the steps t - 1 and t in either direction: the state restarts from `layer.initial_state` before step t
        is read, or with `reverse` before step t - 1 is read. Resets at or past a sequence's length have no effect. A
        sequence whose outputs are not used never affects gradients, even if it is NaN.
      mask: Booleans [time, *batch], True where a step is present, for sequences with gaps or with padding at the
        beginning. The result is that of the sequences without their missing steps. At a missing step the state stays
        unchanged, the output is zero (`jaxrnn.hold` repeats the last one instead), and the input is never read. A reset
        at a missing step takes effect at the next present step, even if that belongs to the next call: if no present
        step follows, a causal layer returns the state after the restart.
      reverse: Whether to read the last step first. Outputs stay aligned with inputs, and padding stays at the end.
      key: A random key for dropout and similar layers. None means evaluation, in which nothing is random.
      loop: How to run, from `jaxrnn.loops`. It changes the cost, never the result.

    Returns:
      The state after the last step that is read, and the outputs [time, *batch, ...], of the joint dtype of inputs and
      parameters.

    Raises:
      TypeError: An argument has the wrong type.
      ValueError: An argument has the wrong value or shape.
    """
    if not isinstance(layer, Layer):
        raise TypeError(f"layer must be a jaxrnn layer, but it is {described(layer)}{did_you_mean(layer)}")
    if not isinstance(loop, Loop):
        raise TypeError(f"loop must be a loop such as jaxrnn.loops.Scan(), but it is {loop!r}")
    if not isinstance(reverse, bool):
        raise TypeError(f"reverse must be True or False, but it is {reverse!r}: it cannot be traced")
    _check_key(key)
    xs = _inputs("xs", xs)
    lengths = _given_lengths(lengths, xs)
    resets = None if resets is None else as_array("resets", resets)
    check_leaves("params", params)
    check_leaves("state", state)
    mask = None if mask is None else as_array("mask", mask)
    run = _run_compiled if is_hashable((layer, loop)) else _run
    with translated_error():
        return run(layer, loop, reverse, params, xs, state, lengths, resets, mask, key)


def _run(
    layer: Layer,
    loop: Loop,
    reverse: bool,
    params: Params,
    xs: Any,
    state: State | None,
    lengths: Array | None,
    resets: Array | None,
    mask: Array | None,
    key: Array | None,
) -> tuple[State, Any]:
    """Runs a layer over arrays. Shapes and dtypes are checked here, once for each compilation."""
    xs = jax.tree.map(jnp.asarray, xs)
    time, batch_shape = _time_and_batch(layer, xs)
    check_parameters(layer, params, xs)
    _check_features(layer, params, xs)
    lengths = _lengths(lengths, time, batch_shape)
    valid = None if lengths is None else jnp.arange(time).reshape(time, *(1,) * len(batch_shape)) < lengths[None]
    resets = _resets(resets, time, batch_shape)
    if mask is not None:
        mask = _booleans("mask", mask, (time, *batch_shape))
        present, xs, moved_resets = gather_present(mask, xs, lengths, resets)
        how: Any = {"lengths": present.lengths, "resets": moved_resets, "reverse": reverse, "key": key, "loop": loop}
        state, ys = unroll(layer, params, xs, state, **how)
        if resets is not None and layer.causal:  # other layers cannot run in parts
            restarted = present.ends_restarted(resets, lengths, reverse)
            state = where(~restarted, state, layer.initial_state(params, batch_shape))
        return state, scatter_present(present, ys)
    with explained(layer, params, xs):
        state = _state(layer, params, state, batch_shape)
    arguments = (params, xs, state, key, lengths, valid, resets)
    params, xs, state, key, lengths, valid, resets = spread_like(arguments, arguments)
    if valid is not None:  # mask the inputs too, because 0 * NaN in a gradient is NaN
        xs = where(valid, xs, jax.tree.map(lambda x: jnp.zeros((), x.dtype), xs))

    def run(params, xs, state, key, lengths, valid, resets):
        plan = Plan(loop, reverse, lengths, valid, resets, batch_shape)
        state, ys = layer.run(params, xs, state, key, plan)
        if valid is not None:
            ys = where(valid, ys, jax.tree.map(lambda y: jnp.zeros((), y.dtype), ys))
        return state, ys

    batch_axes = jax.typeof(jax.tree.leaves(xs)[0]).sharding.spec[1 : 1 + len(batch_shape)]
    if any(batch_axes):  # under a mesh with explicit axes, let the compiler find the shardings inside the loop
        time_first = PartitionSpec(None, *batch_axes)
        shardings = (time_first if isinstance(layer, AllStates) else PartitionSpec(*batch_axes), time_first)
        run = cast("Any", jax.sharding.auto_axes)(run, out_sharding=shardings)
    with explained(layer, params, xs):
        return run(params, xs, state, key, lengths, valid, resets)


# Outside `jit`, a call with an equal layer and equal shapes runs what an earlier call compiled.
_run_compiled = jax.jit(_run, static_argnames=("layer", "loop", "reverse"))


def states_over_time(
    layer: Layer,
    params: Params,
    xs: Any,
    state: State | None = None,
    *,
    lengths: Any = None,
    resets: Any = None,
    reverse: bool = False,
    key: Array | None = None,
    loop: Loop = Auto(),
) -> tuple[State, Any]:
    """Runs a layer over time, like `unroll`, and returns its states after all steps instead of the last one.

    The method `gates` of a cell computes the gates of all steps at once, from the state before each step and the
    projected input. With `resets`, the state before the first step of each sequence is the initial one.

    Example:
      >>> layer = jaxrnn.Stack(jaxrnn.LSTM(64), jaxrnn.Bidirectional(jaxrnn.GRU(32)))
      >>> params = layer.init(jax.random.key(0), input_size=8)
      >>> xs = jnp.zeros((20, 2, 8))  # [time, batch, input]
      >>> states, ys = jaxrnn.states_over_time(layer, params, xs)
      >>> states[0].c.shape, states[1].backward.h.shape
      ((20, 2, 64), (20, 2, 32))

      The gates of the LSTM over time:

      >>> cell, p, after = layer.layers[0], params[0], states[0]
      >>> first = cell.initial_state(p, batch_shape=(2,))
      >>> before = jax.tree.map(lambda s0, s: jnp.concatenate([s0[None], s[:-1]]), first, after)
      >>> gates = cell.gates(p, before, cell.project(p, xs))
      >>> gates.f.shape
      (20, 2, 64)

    Args:
      layer: A cell or any other layer.
      params: Its parameters, from `layer.init`.
      xs: Inputs [time, *batch, features] or symbols [time, *batch].
      state: The state before the first step; None means `layer.initial_state`.
      lengths: As in `unroll`. In the padding, the state stays that after a sequence's last step; with `reverse`, where
        the padding is read first, it is the state before the first step.
      resets: As in `unroll`.
      reverse: Whether to read the last step first. States stay aligned with inputs, so the last state is the first
        entry.
      key: As in `unroll`.
      loop: As in `unroll`.

    Returns:
      The states, with the structure of the layer's state and time as the first axis of each array, and the outputs.
      The state at t is the one after the step that reads the input at t.

    Raises:
      TypeError: An argument has the wrong type, or the layer returns its last state only.
      ValueError: An argument has the wrong value or shape.
    """
    recorded = AllStates(layer) if isinstance(layer, Layer) else layer  # `unroll` refuses what is not a layer
    return unroll(recorded, params, xs, state, lengths=lengths, resets=resets, reverse=reverse, key=key, loop=loop)


def step(
    layer: Layer,
    params: Params,
    state: State,
    x: Any,
    *,
    resets: Any = None,
    mask: Any = None,
    key: Array | None = None,
) -> tuple[State, Any]:
    """Runs a layer over one step, for streaming. This is `unroll` for one step, without the time axis.

    Example:
      >>> cell = jaxrnn.GRU(64)
      >>> params = cell.init(jax.random.key(0), input_size=8)
      >>> state = cell.initial_state(params, batch_shape=(2,))
      >>> state, y = jaxrnn.step(cell, params, state, jnp.zeros((2, 8)))
      >>> y.shape
      (2, 64)

    Args:
      layer: Any causal layer, that is, any layer that does not read the future, as `Bidirectional` does.
      params: Its parameters.
      state: The state before the step; initially `layer.initial_state(params, batch_shape)`.
      x: Input [*batch, features], or integers [*batch].
      resets: Booleans [*batch], True where a new sequence begins: the state restarts before the input is read, even if
        the step is missing.
      mask: Booleans [*batch], True where the step is present. Elsewhere the state stays unchanged and the output is
        zero.
      key: A random key. None means evaluation.

    Returns:
      The state after the step, and the output [*batch, ...].

    Raises:
      TypeError: An argument has the wrong type, or the layer is not causal.
      ValueError: An argument has the wrong value or shape.
    """
    if isinstance(layer, Layer) and not layer.causal:
        raise TypeError(f"step needs a causal layer, but {layer} reads the future: call unroll")
    resets = None if resets is None else as_array("resets", resets)
    mask = None if mask is None else as_array("mask", mask)
    one_step = _one_step_compiled if is_hashable(layer) else _one_step
    return one_step(layer, params, state, _inputs("x", x), resets, mask, key)


def _one_step(
    layer: Layer,
    params: Params,
    state: State,
    x: Any,
    resets: Array | None,
    mask: Array | None,
    key: Array | None,
) -> tuple[State, Any]:
    xs = jax.tree.map(lambda x: jnp.asarray(x)[None], x)
    resets, mask = (None if b is None else jnp.asarray(b)[None] for b in (resets, mask))
    state, ys = unroll(layer, params, xs, state, resets=resets, mask=mask, key=key, loop=Scan())
    return state, jax.tree.map(lambda y: y[0], ys)


_one_step_compiled = jax.jit(_one_step, static_argnames="layer")


def _check_key(key: Any) -> None:
    if key is None or is_key(key):
        return
    raise TypeError(f"key must be one random key, such as jax.random.key(0), but it is {key!r}")


def _inputs(name: str, xs: Any) -> Any:
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
        if not is_symbols(x) and not jnp.issubdtype(x.dtype, jnp.inexact):
            raise TypeError(f"xs must hold numbers or integer symbols, but its dtype is {x.dtype}: cast it")
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


def _given_lengths(lengths: Any, xs: Any) -> Array | None:
    """Returns the lengths as an array, once their values are checked. Traced values are clipped, see `_lengths`."""
    if lengths is None:
        return None
    lengths = as_array("lengths", lengths)
    time = jax.tree.leaves(xs)[0].shape[:1]
    if time and is_symbols(lengths) and not isinstance(lengths, Tracer):
        values = np.asarray(lengths)
        if ((values < 0) | (values > time[0])).any():
            raise ValueError(
                f"lengths must be between 0 and the size of the time axis, {time[0]}, but they are {lengths}"
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


def _resets(resets: Any, time: int, batch_shape: tuple[int, ...]) -> Array | None:
    return None if resets is None else _booleans("resets", resets, (time, *batch_shape))


def _booleans(name: str, value: Any, shape: tuple[int, ...]) -> Array:
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
    return state
