"""`unroll` and `step`: the one door through which every layer runs, and where arguments are checked."""

from __future__ import annotations

from typing import Any, cast

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.core import Tracer
from jax.sharding import PartitionSpec

from jaxrnn.layer import Layer, Params, Plan, State
from jaxrnn.loops.deferred import Deferred
from jaxrnn.loops.scan import Loop, Scan
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

    Args:
      layer: a cell or any other layer.
      params: its parameters, from `layer.init`.
      xs: inputs [time, *batch, features], with any number of batch axes or none. Integers [time, *batch]
        are symbols, the same as their one-hot vectors; one out of range gives NaN. A pytree of such
        arrays for a layer that takes several.
      state: the state to begin from; None: `layer.initial_state`. It keeps its dtype.
      lengths: integers [*batch] from 0 to time. At or past its length a sequence's state is left alone and its
        output is zero; what stands in the padding, NaN and Inf included, reaches neither values nor gradients.
      resets: bool [time, *batch]. True begins a new sequence at that step, in the order the steps are
        read: the state restarts from `layer.initial_state` before that step's input is read.
      reverse: read the last step first. Outputs stay aligned with inputs, padding stays at the end.
      key: random key for dropout and the like; None is evaluation, where nothing is random.
      loop: how to run (`jaxrnn.loops`). It changes the cost, never the result.

    Returns:
      The state after the last step read, and the outputs [time, *batch, ...], of the joint dtype of
      inputs and parameters.

    Raises:
      TypeError: an argument is of the wrong kind.
      ValueError: an argument's value or shape is wrong.
    """
    if not isinstance(layer, Layer):
        hint = f": did you mean {layer.__name__}(...)?" if isinstance(layer, type) else ""
        raise TypeError(f"layer must be a jaxrnn layer, but it is {layer!r}{hint}")
    if not isinstance(loop, Loop):
        raise TypeError(f"loop must be a loop such as jaxrnn.loops.Scan(), but it is {loop!r}")
    if not isinstance(reverse, bool):
        raise TypeError(f"reverse must be True or False, but it is {reverse!r}: it is not traced")
    _check_key(key)
    xs = jax.tree.map(jnp.asarray, xs)
    time, batch_shape = _time_and_batch(layer, xs)
    valid = _valid(lengths, time, batch_shape)
    resets = _resets(resets, time, batch_shape)
    state = _state(layer, params, state, batch_shape)
    arguments = (params, xs, state, key, valid, resets)
    params, xs, state, key, valid, resets = spread_like(arguments, arguments)
    if valid is not None:  # mask the inputs too: 0 * NaN in a gradient is NaN
        xs = where(valid, xs, jax.tree.map(lambda x: jnp.zeros((), x.dtype), xs))

    def run(params, xs, state, key, valid, resets):
        state, ys = layer.run(params, xs, state, key, Plan(loop, reverse, valid, resets, batch_shape))
        if valid is not None:
            ys = where(valid, ys, jax.tree.map(lambda y: jnp.zeros((), y.dtype), ys))
        return state, ys

    batch_axes = jax.typeof(jax.tree.leaves(xs)[0]).sharding.spec[1 : 1 + len(batch_shape)]
    if any(batch_axes):  # of a mesh with explicit axes: inside the loop the compiler finds the shardings
        shardings = (PartitionSpec(*batch_axes), PartitionSpec(None, *batch_axes))
        run = cast("Any", jax.sharding.auto_axes)(run, out_sharding=shardings)
    return run(params, xs, state, key, valid, resets)


def step(layer: Layer, params: Params, state: State, x: Any, *, key: Array | None = None) -> tuple[State, Any]:
    """Runs a layer over one step, for streaming: `unroll` of one step, without the time axis.

    Args:
      layer: any layer but those that read the future (`Bidirectional`).
      params: its parameters.
      state: the state before the step, of `layer.initial_state(params, batch_shape)` at first.
      x: input [*batch, features], or integers [*batch].
      key: random key; None is evaluation.

    Returns:
      The state after the step, and the output [*batch, ...].
    """
    if isinstance(layer, Layer) and not layer.causal:
        raise TypeError(f"step runs one step after the other, but {layer} reads the future: call unroll")
    state, ys = unroll(layer, params, jax.tree.map(lambda x: jnp.asarray(x)[None], x), state, key=key, loop=Scan())
    return state, jax.tree.map(lambda y: y[0], ys)


def _check_key(key: Any) -> None:
    dtype = getattr(key, "dtype", None)
    if key is None or (dtype is not None and jnp.issubdtype(dtype, jax.dtypes.prng_key) and key.shape == ()):
        return
    if dtype == np.uint32 and key.ndim == 1:  # a raw key, from jax.random.PRNGKey
        return
    raise TypeError(f"key must be one random key, such as jax.random.key(0), but it is {key!r}")


def _time_and_batch(layer: Layer, xs: Any) -> tuple[int, tuple[int, ...]]:
    """The length and the batch shape that all leaves of the inputs agree on."""
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


def _valid(lengths: Any, time: int, batch_shape: tuple[int, ...]) -> Array | None:
    if lengths is None:
        return None
    if not is_symbols(lengths := jnp.asarray(lengths)):
        raise TypeError(f"lengths must be integers, but their dtype is {lengths.dtype}")
    if lengths.shape != batch_shape:
        raise ValueError(f"lengths must have the batch shape {batch_shape} of xs, but their shape is {lengths.shape}")
    if not isinstance(lengths, Tracer) and ((np.asarray(lengths) < 0) | (np.asarray(lengths) > time)).any():
        raise ValueError(f"lengths must lie between 0 and the time axis' {time}, but they are {lengths}")
    return jnp.arange(time).reshape(time, *(1,) * len(batch_shape)) < lengths


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
