"""`unroll`, `states_over_time` and `step`, through which every layer runs."""

from __future__ import annotations

from typing import Any, cast

import jax
import jax.numpy as jnp
from jax import Array
from jax.sharding import PartitionSpec

from jaxrnn._all_states import AllStates
from jaxrnn._cache import is_hashable
from jaxrnn._call import Call, Given, booleans, checked, given, inputs, prepared, run_explained
from jaxrnn._diagnosis import as_array, check_key, check_leaves
from jaxrnn._mask import gather_present, scatter_present
from jaxrnn.layer import Layer, Loop, Params, State
from jaxrnn.loops import Auto, Scan
from jaxrnn.loops._reverse_only import translated_error
from jaxrnn.ops import where


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
      key: A random key for dropout and similar layers, or random keys [*batch], one for each sequence. What is drawn
        for a sequence with its own key does not depend on the other sequences, nor on how they are split over devices.
        None means evaluation, in which nothing is random.
      loop: How to run, from `jaxrnn.loops`. It changes the cost, never the result. Inside
        `jax.shard_map`, a loop with an `axis_name` runs sequences whose time is sharded over that mesh axis.

    Returns:
      The state after the last step that is read, and the outputs [time, *batch, ...], of the joint dtype of inputs and
      parameters.

    Raises:
      TypeError: An argument has the wrong type.
      ValueError: An argument has the wrong value or shape.
    """
    how: Any = {"lengths": lengths, "resets": resets, "mask": mask, "reverse": reverse, "key": key}
    if not isinstance(loop, Loop):
        raise TypeError(f"loop must be a loop such as jaxrnn.loops.Scan(), but it is {loop!r}")
    arguments = given(layer, params, xs, state, axis_name=loop.axis_name, **how)
    if mask is not None and loop.axis_name is not None:
        raise ValueError(
            f"a mask moves steps over time, which is sharded over the mesh axis {loop.axis_name!r}: remove the missing "
            "steps before jax.shard_map, and give lengths"
        )
    run = _run_compiled if is_hashable((layer, loop)) else _run
    with translated_error():
        return run(layer, loop, reverse, arguments)


def _run(layer: Layer, loop: Loop, reverse: bool, given: Given) -> tuple[State, Any]:
    """Runs a layer over arrays."""
    params, state = given.params, given.state
    inputs = checked(layer, given, loop.axis_name)
    batch_shape = inputs.batch_shape
    if given.mask is not None:
        lengths, resets = inputs.lengths, inputs.resets
        mask = booleans("mask", given.mask, (inputs.time, *batch_shape))
        present, xs, moved_resets = gather_present(mask, inputs.xs, lengths, resets)
        how: Any = {"lengths": present.lengths, "resets": moved_resets, "reverse": reverse, "key": inputs.key}
        state, ys = unroll(layer, params, xs, state, loop=loop, **how)
        if resets is not None and layer.causal:  # other layers cannot run in parts
            restarted = present.ends_restarted(resets, lengths, reverse)
            state = where(~restarted, state, layer.initial_state(params, batch_shape))
        return state, scatter_present(present, ys)
    call = prepared(layer, params, state, inputs)

    def run(call: Call) -> tuple[State, Any]:
        state, ys = call.run(layer, loop, reverse, batch_shape)
        if call.valid is not None:
            ys = where(call.valid, ys, jax.tree.map(lambda y: jnp.zeros((), y.dtype), ys))
        return state, ys

    batch_axes = jax.typeof(jax.tree.leaves(call.xs)[0]).sharding.spec[1 : 1 + len(batch_shape)]
    if any(batch_axes):  # under a mesh with explicit axes, let the compiler find the shardings inside the loop
        time_first = PartitionSpec(None, *batch_axes)
        shardings = (time_first if isinstance(layer, AllStates) else PartitionSpec(*batch_axes), time_first)
        run = cast("Any", jax.sharding.auto_axes)(run, out_sharding=shardings)
    return run_explained(layer, run, call)


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
      key: A random key, or random keys [*batch]. None means evaluation.

    Returns:
      The state after the step, and the output [*batch, ...].

    Raises:
      TypeError: An argument has the wrong type, or the layer is not causal.
      ValueError: An argument has the wrong value or shape.
    """
    if isinstance(layer, Layer) and not layer.causal:
        raise TypeError(f"step needs a causal layer, but {layer} reads the future: call unroll")
    check_key(key)
    resets = None if resets is None else as_array("resets", resets)
    mask = None if mask is None else as_array("mask", mask)
    check_leaves("params", params)
    check_leaves("state", state)
    one_step = _one_step_compiled if is_hashable(layer) else _one_step
    return one_step(layer, params, state, inputs("x", x), resets, mask, key)


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
