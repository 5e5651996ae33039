"""`generate`: a layer that reads what it outputs."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.core import Tracer

from jaxrnn import _check as check
from jaxrnn._diagnosis import as_arrays
from jaxrnn._unroll import step, unroll
from jaxrnn.layer import Layer, Params, State, leading_shape
from jaxrnn.ops import at_last, is_symbols, where


class Generated(NamedTuple):
    """The result of `generate`."""

    xs: Any  # the generated inputs [steps, *batch, ...]; zero after a sequence has ended
    ys: Any  # the outputs [steps, *batch, ...] from which they were made; zero after a sequence has ended
    lengths: Array  # [*batch], the number of inputs of each sequence, including the one that ended it
    state: State  # before the last generated input is read


def generate(
    layer: Layer,
    params: Params,
    prompt: Any,
    state: State | None = None,
    *,
    steps: int,
    feed: Callable[..., Any] | None = None,
    stop: Callable[[Any], Any] | None = None,
    lengths: Any = None,
    key: Array | None = None,
) -> Generated:
    """Runs a layer in a closed loop: after a prompt, each input is made from the output before it.

    `feed` computes it, for instance by sampling a symbol. Without `feed`, the output itself is the next input. The
    layer runs without a random key, and everything can be differentiated. Call this function inside `jax.jit`.

    Example:
      >>> layer = jaxrnn.Stack(jaxrnn.GRU(16), jaxrnn.Dense(5))
      >>> params = layer.init(jax.random.key(0), input_size=5)
      >>> prompt = jnp.zeros((3, 2), int)  # [time, batch], symbols

      Sampling, with a temperature of 0.8:

      >>> sample = lambda logits, key: jax.random.categorical(key, logits / 0.8)
      >>> out = jaxrnn.generate(layer, params, prompt, steps=10, feed=sample, key=jax.random.key(1))
      >>> out.xs.shape, out.ys.shape
      ((10, 2), (10, 2, 5))

      The most likely symbol at each step, until it is symbol 4:

      >>> best = lambda logits: logits.argmax(-1)
      >>> out = jaxrnn.generate(layer, params, prompt, steps=10, feed=best, stop=lambda x: x == 4)
      >>> out.lengths.shape
      (2,)

      A forecast, which reads its own predictions:

      >>> layer = jaxrnn.Stack(jaxrnn.GRU(16), jaxrnn.Dense(3))
      >>> params = layer.init(jax.random.key(0), input_size=3)
      >>> jaxrnn.generate(layer, params, jnp.ones((20, 2, 3)), steps=12).xs.shape
      (12, 2, 3)

    Args:
      layer: Any causal layer, that is, any layer that does not read the future, as `Bidirectional` does.
      params: Its parameters.
      prompt: The steps to read first, at least one: [time, *batch, features], or symbols [time, *batch].
      state: The state before the prompt; None means `layer.initial_state`.
      steps: Number of inputs to generate, at least one.
      feed: A function of an output [*batch, ...] that returns the next input [*batch, ...]; with `key`, of an output
        and a random key, which is `jax.random.split(key, steps)[n]` for the n-th input. None: the
        next input is the output itself.
      stop: A function of an input [*batch, ...] that returns booleans [*batch]: whether a sequence ends with this
        input. From then on its state stays unchanged, and its inputs and outputs are zero. When all sequences have
        ended, the remaining steps do not run the layer. None: no sequence ends before `steps`.
      lengths: Lengths of the prompts, integers [*batch] of at least 1, or None if all of them have the full length.
      key: A random key for `feed`, or None.

    Returns:
      A `Generated`: the inputs, the outputs they were made from, the lengths, and the state. The last input of each
      sequence has not been read yet, so `generate(layer, params, out.xs[-1:], out.state, ...)` continues a sequence
      that has not ended.

    Raises:
      TypeError: An argument has the wrong type, or the layer is not causal.
      ValueError: An argument has the wrong value or shape, or `feed` or `stop` return arrays of the wrong shape.
    """
    if isinstance(layer, Layer) and not layer.causal:
        raise TypeError(f"generate needs a causal layer, but {layer} reads the future: call unroll")
    if not check.is_integer(steps) or steps < 1:
        raise (ValueError if check.is_integer(steps) else TypeError)(
            f"steps must be a positive integer, but it is {steps!r}: it cannot be traced"
        )
    for name, function in (("feed", feed), ("stop", stop)):
        if function is not None and not callable(function):
            raise TypeError(f"{name} must be a function or None, but it is {function!r}")
    prompt = as_arrays("prompt", prompt)
    state, ys = unroll(layer, params, prompt, state, lengths=lengths)
    if jax.tree.leaves(prompt)[0].shape[0] == 0:
        raise ValueError("prompt must have at least one step, but its time axis is empty: give the first input")
    if lengths is None:
        y = jax.tree.map(lambda y: y[-1], ys)
    else:
        if not isinstance(lengths, Tracer) and (np.asarray(lengths) < 1).any():
            raise ValueError(f"the lengths of prompts must be at least 1, but they are {lengths}: give the first input")
        y = jax.tree.map(partial(at_last, lengths=jnp.asarray(lengths)), ys)

    first = jax.tree.map(lambda x: x[0], prompt)
    batch_shape = leading_shape(layer, first)
    keys = None if key is None else jax.random.split(key, steps)

    def make(y: Any, key: Array | None) -> tuple[Any, Array]:
        """Returns the next input, and which sequences end with it."""
        x = y if feed is None else feed(y) if key is None else feed(y, key)
        x = jax.tree.map(lambda x: jnp.asarray(x).astype(jnp.result_type(x)), x)  # without a weak type
        if (made := _describe(x)) != (wanted := _describe(first)):
            raise ValueError(f"feed must return what a step of the prompt is, {wanted}, but it returns {made}")
        ends = jnp.zeros(batch_shape, bool) if stop is None else jnp.asarray(stop(x))
        if ends.dtype != bool or ends.shape != batch_shape:
            raise ValueError(
                f"stop must return booleans of the batch shape {batch_shape}, but it returns {ends.dtype}{ends.shape}"
            )
        return x, ends

    def run_one(carry: _Carry, key: Array | None) -> _Carry:
        state, y = step(layer, params, carry.state, carry.x)
        y = _cast_like(y, carry.y)  # may depend on the dtype of the input, and the prompt's may differ from that of `x`
        x, ends = make(y, key)
        x = _cast_like(x, carry.x)
        if stop is not None:
            state = where(carry.ended, carry.state, state)
            x, y = where(carry.ended, jax.tree.map(jnp.zeros_like, (x, y)), (x, y))
        return _Carry(state, x, y, carry.ended | ends, carry.length + ~carry.ended)

    def run_unless_all_ended(carry: _Carry, key: Array | None) -> tuple[_Carry, Any]:
        if stop is None:
            carry = run_one(carry, key)
        else:
            x, y = jax.tree.map(jnp.zeros_like, (carry.x, carry.y))
            carry = jax.lax.cond(carry.ended.all(), lambda: carry._replace(x=x, y=y), lambda: run_one(carry, key))
        return carry, (carry.x, carry.y)

    x, ends = make(y, None if keys is None else keys[0])
    carry = _Carry(state, x, y, ends, jnp.ones_like(ends, int))
    later = None if keys is None else keys[1:]
    last, others = jax.lax.scan(run_unless_all_ended, carry, later, length=steps - 1)
    xs, ys = jax.tree.map(lambda first, others: jnp.concatenate([first[None], others]), (x, y), others)
    return Generated(xs, ys, last.length, last.state)


class _Carry(NamedTuple):
    state: State  # before `x` is read
    x: Any  # the input that was made last
    y: Any  # the output that it was made from
    ended: Array  # bool [*batch]
    length: Array  # int [*batch]


def _cast_like(tree: Any, other: Any) -> Any:
    return jax.tree.map(lambda x, like: x.astype(like.dtype), tree, other)


def _describe(x: Any) -> str:
    """Describes what an input shares with the steps of the prompt: structure, shape, and whether it is symbols."""
    return str(jax.tree.map(lambda x: f"{'symbols' if is_symbols(x) else 'numbers'} of shape {x.shape}", x))
