"""`unroll` and `step`, through which every layer runs, and where arguments are checked."""

from __future__ import annotations

from typing import Any, cast

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.core import Tracer
from jax.sharding import PartitionSpec

from jaxrnn._check import did_you_mean
from jaxrnn.layer import Layer, Loop, Params, Plan, State
from jaxrnn.loops import Deferred, Scan
from jaxrnn.ops import is_symbols, spread_like, where


def unroll(
    layer: Layer,
    params: Params,
    xs: Any,
    state: State | None = None,
    *,
    lengths: Any = None,
    resets: Any = None,
    reverse: bool = False,
    key: Array | None = None,
    loop: Loop = Deferred(),
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
      resets: Booleans [time, *batch]. True at t says that a new sequence begins at t in time, so that no state passes
        between the steps t - 1 and t, in either direction: the state restarts from `layer.initial_state` before step t
        is read, or with `reverse` before step t - 1 is read. Resets at or past a sequence's length have no effect. A
        sequence of whose outputs none is used never affects gradients, even if it is NaN.
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
        raise TypeError(f"layer must be a jaxrnn layer, but it is {layer!r}{did_you_mean(layer)}")
    if not isinstance(loop, Loop):
        raise TypeError(f"loop must be a loop such as jaxrnn.loops.Scan(), but it is {loop!r}")
    if not isinstance(reverse, bool):
        raise TypeError(f"reverse must be True or False, but it is {reverse!r}: it cannot be traced")
    _check_key(key)
    xs = jax.tree.map(jnp.asarray, xs)
    time, batch_shape = _time_and_batch(layer, xs)
    lengths = _lengths(lengths, time, batch_shape)
    valid = None if lengths is None else jnp.arange(time).reshape(time, *(1,) * len(batch_shape)) < lengths
    resets = _resets(resets, time, batch_shape)
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
        shardings = (PartitionSpec(*batch_axes), PartitionSpec(None, *batch_axes))
        run = cast("Any", jax.sharding.auto_axes)(run, out_sharding=shardings)
    return run(params, xs, state, key, lengths, valid, resets)


def step(
    layer: Layer, params: Params, state: State, x: Any, *, resets: Any = None, key: Array | None = None
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
      resets: Booleans [*batch]. Where True, a new sequence begins: the state restarts before the input is read.
      key: A random key. None means evaluation.

    Returns:
      The state after the step, and the output [*batch, ...].

    Raises:
      TypeError: An argument has the wrong type, or the layer is not causal.
      ValueError: An argument has the wrong value or shape.
    """
    if isinstance(layer, Layer) and not layer.causal:
        raise TypeError(f"step needs a causal layer, but {layer} reads the future: call unroll")
    xs = jax.tree.map(lambda x: jnp.asarray(x)[None], x)
    resets = None if resets is None else jnp.asarray(resets)[None]
    state, ys = unroll(layer, params, xs, state, resets=resets, key=key, loop=Scan())
    return state, jax.tree.map(lambda y: y[0], ys)


def _check_key(key: Any) -> None:
    dtype = getattr(key, "dtype", None)
    if key is None or (dtype is not None and jnp.issubdtype(dtype, jax.dtypes.prng_key) and key.shape == ()):
        return
    if dtype == np.uint32 and key.ndim == 1:  # a raw key, from jax.random.PRNGKey
        return
    raise TypeError(f"key must be one random key, such as jax.random.key(0), but it is {key!r}")


def _time_and_batch(layer: Layer, xs: Any) -> tuple[int, tuple[int, ...]]:
    """Returns the length and the batch shape that all leaves of the inputs must share."""
    shapes = set()
    for x in jax.tree.leaves(xs):
        symbols = is_symbols(x)
        if not symbols and not jnp.issubdtype(x.dtype, jnp.inexact):
            raise TypeError(f"xs must hold numbers or integer symbols, but its dtype is {x.dtype}: cast it")
        features = 0 if symbols else layer.num_feature_axes
        if x.ndim < 1 + features:
            axes = "time, *batch" if symbols else f"time, *batch, {features} of features"
            raise ValueError(f"xs must have the axes [{axes}], but its shape is {x.shape}: add the missing axes")
        shapes.add(x.shape[: x.ndim - features])
    if len(shapes) != 1:
        raise ValueError(
            f"all inputs must share one [time, *batch], but they have {sorted(shapes)}: "
            "give xs as arrays [time, *batch, features] or integers [time, *batch]"
        )
    time, *batch_shape = shapes.pop()
    return time, tuple(batch_shape)


def _lengths(lengths: Any, time: int, batch_shape: tuple[int, ...]) -> Array | None:
    if lengths is None:
        return None
    lengths = jnp.asarray(lengths)
    if not is_symbols(lengths):
        raise TypeError(f"lengths must be integers, but their dtype is {lengths.dtype}")
    if lengths.shape != batch_shape:
        raise ValueError(f"lengths must have the batch shape {batch_shape} of xs, but their shape is {lengths.shape}")
    if not isinstance(lengths, Tracer) and ((np.asarray(lengths) < 0) | (np.asarray(lengths) > time)).any():
        raise ValueError(f"lengths must be between 0 and the size of the time axis, {time}, but they are {lengths}")
    if lengths.dtype.itemsize < 4:  # so narrow an integer may not be able to represent `time`
        lengths = lengths.astype(jnp.int32)
    lengths = jnp.clip(lengths, 0, time) if isinstance(lengths, Tracer) else lengths
    return lengths.astype(int)  # signed and wide, so that layers can compute with lengths


def _resets(resets: Any, time: int, batch_shape: tuple[int, ...]) -> Array | None:
    if resets is None:
        return None
    if (resets := jnp.asarray(resets)).dtype != bool:
        raise TypeError(f"resets must be booleans, but their dtype is {resets.dtype}")
    if resets.shape != (time, *batch_shape):
        raise ValueError(f"resets must have the shape [time, *batch] = {(time, *batch_shape)}, not {resets.shape}")
    return resets


def _state(layer: Layer, params: Params, state: State | None, batch_shape: tuple[int, ...]) -> State:
    if state is None:
        return layer.initial_state(params, batch_shape)
    expected = jax.eval_shape(lambda p: layer.initial_state(p, batch_shape), params)
    if jax.tree.structure(state) != jax.tree.structure(expected):
        raise TypeError(
            f"state must have the structure of layer.initial_state(params, {batch_shape}), "
            f"{jax.tree.structure(expected)}, but it has {jax.tree.structure(state)}"
        )
    state = jax.tree.map(jnp.asarray, state)
    shapes, wanted = ([leaf.shape for leaf in jax.tree.leaves(tree)] for tree in (state, expected))
    if shapes != wanted:
        raise ValueError(
            f"state must have the shapes {wanted} of layer.initial_state(params, {batch_shape}), but it has {shapes}"
        )
    return state
