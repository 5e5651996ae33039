"""A layer that runs over all slices of a sequence at once, and again over their outputs."""

from __future__ import annotations

import math
from dataclasses import KW_ONLY, dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from jaxrnn import _check as check
from jaxrnn._keys import split
from jaxrnn.layer import Layer, Params, Plan, State
from jaxrnn.layers._output_size import output_size
from jaxrnn.layers._padding import hold_in_padding
from jaxrnn.ops import align, at_last


@dataclass(frozen=True)
class Sliced(Layer):
    r"""Runs a layer over all slices of a sequence at once, and again over the slices' last outputs, level by level.

    .. math::
        h^0_{s,i} &= L^0(x_{s,1}, \dots, x_{s,l})_i, \quad s = 1 \dots n^k \\
        h^p_{s,i} &= L^p(h^{p-1}_{ns-n+1,last}, \dots, h^{p-1}_{ns,last})_i, \quad s = 1 \dots n^{k-p}, p = 1 \dots k

    A sequence of :math:`T = l n^k` steps takes :math:`l + kn` sequential steps instead of :math:`T`. A sequence of any
    other length is cut according to its own length into slices, the first of which are one step longer than the rest.
    If it has fewer than :math:`n^k` steps, its last slices are empty, and the next level skips them.

    The output is that of the last level: :math:`h^k_{1,i}`, repeated at all steps of the sequence's :math:`i`-th part.
    The output at the last step has therefore read the whole sequence. All other outputs have read the sequence up to
    the end of their part, so they depend on future inputs, and `jaxrnn.step` cannot run this layer.

    The state is that of the last level. A sequence can be continued from it, but the lower levels start anew at each
    slice. `resets` raise an error: give packed sequences as a batch instead.

    Example:
      >>> layer = jaxrnn.Sliced(jaxrnn.GRU(64), slices=4, levels=2)
      >>> params = layer.init(jax.random.key(0), input_size=8)
      >>> len(params)  # one for each level
      3
      >>> state, ys = jaxrnn.unroll(layer, params, jnp.zeros((160, 2, 8)))  # [time, batch, input]; 18 steps in sequence
      >>> ys.shape
      (160, 2, 64)

    Args:
      layer: The layer of each level. Each level has its own parameters.
      slices: Number of slices :math:`n` into which a sequence, and at further levels each slice, is cut.
      levels: Number of times :math:`k` that sequences are cut.

    References:
      Z. Yu, G. Liu, "Sliced recurrent neural networks", 2018.

    Deviations:
      Sequences are not padded where :math:`n^k` does not divide :math:`T`.
    """

    layer: Layer
    _: KW_ONLY
    slices: int = 8
    levels: int = 1

    def __post_init__(self) -> None:
        check.instance(self, "layer", Layer, "a jaxrnn layer")
        check.at_least(self, "slices", 2)
        check.positive(self, "levels")

    @property
    def causal(self) -> bool:
        return False

    @property
    def num_feature_axes(self) -> int:  # type: ignore[override]
        return self.layer.num_feature_axes

    def init(self, key: Array, input_size: Any) -> tuple[Params, ...]:
        params = []
        for k in jax.random.split(key, self.levels + 1):
            params.append(self.layer.init(k, input_size))
            input_size = output_size(self.layer, params[-1], input_size)
        return tuple(params)

    def initial_state(self, params: Params, batch_shape: tuple[int, ...] = (), dtype: Any = None) -> State:
        return self.layer.initial_state(params[-1], batch_shape, dtype)

    def run(self, params: Params, xs: Any, state: State, key: Array | None, plan: Plan) -> tuple[State, Any]:
        if plan.axis_name is not None:
            raise TypeError(
                f"{self} cuts whole sequences and cannot run with time sharded over a mesh axis, {plan.axis_name!r}: "
                "give unroll a loop without axis_name, and shard the batch"
            )
        if plan.resets is not None:
            raise ValueError(
                f"{self} cuts each sequence by its length and cannot run with resets: give packed sequences as a batch"
            )
        time = jax.tree.leaves(xs)[0].shape[0]
        if time == 0:
            return self._run_no_steps(params, xs, state, key, plan)
        num_slices = self.slices**self.levels
        keys = split(key, len(params))

        is_divisible = isinstance(time, int) and time % num_slices == 0  # for a symbolic length this is unknown
        if is_divisible and plan.lengths is None:
            cut = _EvenCut(time, plan, parts=self.slices, num_slices=num_slices)
        else:
            cut = _UnevenCut(time, plan, parts=self.slices, num_slices=num_slices)
        xs = cut.slice_inputs(xs)
        lengths = cut.lengths
        valid = cut.valid
        for level in range(self.levels):
            batch_shape = (self.slices ** (self.levels - level), *plan.batch_shape)
            slices = Plan(plan.loop, lengths=lengths, valid=valid, batch_shape=batch_shape)
            initial = self.layer.initial_state(params[level], batch_shape)
            key = keys[level]
            if key is not None and key.ndim > 0:  # each sequence has a key of its own, and so have its slices
                key = jnp.stack(split(key, batch_shape[0]))
            _, ys = self.layer.run(params[level], xs, initial, key, slices)
            if lengths is None:
                last = jax.tree.map(lambda y: y[-1], ys)
            else:
                last = jax.tree.map(partial(at_last, lengths=lengths), ys)
                valid = self._slices_to_steps(lengths > 0)
                lengths = valid.sum(0)
            xs = jax.tree.map(self._slices_to_steps, last)
        whole = Plan(plan.loop, lengths=lengths, valid=valid, batch_shape=plan.batch_shape, all_states=plan.all_states)
        last_state, ys = self.layer.run(params[-1], xs, state, keys[-1], whole)
        if plan.all_states:  # a part's state is repeated over its steps, like its output
            last_state = hold_in_padding(cut.repeat_outputs(last_state), state, plan)
        return last_state, cut.repeat_outputs(ys)

    def _run_no_steps(self, params: Params, xs: Any, state: State, key: Array | None, plan: Plan) -> tuple[State, Any]:
        """Returns the state and outputs of no steps, whose other axes are found by running one step of padding."""
        padding = jax.tree.map(lambda x: jnp.zeros((1, *x.shape[1:]), x.dtype), xs)
        no_lengths = jnp.zeros(plan.batch_shape, int)
        not_valid = jnp.zeros((1, *plan.batch_shape), bool)
        state, ys = self.run(params, padding, state, key, plan._replace(lengths=no_lengths, valid=not_valid))
        state = jax.tree.map(lambda s: s[:0], state) if plan.all_states else state
        return state, jax.tree.map(lambda y: y[:0], ys)

    def _slices_to_steps(self, x: Array) -> Array:
        """Turns what the slices of a level returned into the steps of the next level.

        Args:
          x: An array [slices, ...] with one entry for each slice of the level.

        Returns:
          An array [steps, slices of the next level, ...]. At the last level, which has no slices, [steps, ...].
        """
        steps = x.reshape(len(x) // self.slices, self.slices, *x.shape[1:]).swapaxes(0, 1)
        return steps[:, 0] if steps.shape[1] == 1 else steps


class _EvenCut:
    """Cuts sequences without padding into slices of equal length.

    Attributes:
      lengths: None, because all slices have the full length.
      valid: None, because there is no padding.
    """

    lengths = None
    valid = None

    def __init__(self, time: int, plan: Plan, *, parts: int, num_slices: int):
        self.time = time
        self.parts = parts
        self.num_slices = num_slices
        self.stride = -1 if plan.reverse else 1

    def slice_inputs(self, xs: Any) -> Any:
        """Cuts inputs [time, ...] into slices [time of a slice, slices, ...], in the order in which they are read."""
        shape = (self.num_slices, self.time // self.num_slices)
        return jax.tree.map(lambda x: x[:: self.stride].reshape(*shape, *x.shape[1:]).swapaxes(0, 1), xs)

    def repeat_outputs(self, ys: Any) -> Any:
        """Repeats each output of the last level [parts, ...] at all steps of its part: [time, ...]."""
        return jax.tree.map(lambda y: jnp.repeat(y, self.time // self.parts, axis=0)[:: self.stride], ys)


class _UnevenCut:
    """Cuts each sequence by its own length. Its first slices are a step longer than the others.

    All slices are padded to the longest one.

    Attributes:
      lengths: Lengths of the slices [slices, *batch].
      valid: Booleans [time of a slice, slices, *batch], False in the padding.
    """

    def __init__(self, time: Any, plan: Plan, *, parts: int, num_slices: int):
        self.time = time
        self.reverse = plan.reverse
        self.slices_per_part = num_slices // parts
        self.sequence_length = time if plan.lengths is None else plan.lengths  # one for all sequences, or [*batch]
        self.short_length = self.sequence_length // num_slices  # the longer slices have one more step
        self.num_longer = self.sequence_length % num_slices
        slice_time = (time + num_slices - 1) // num_slices

        batch_axes = jnp.ndim(self.sequence_length)
        s = jnp.arange(num_slices).reshape(num_slices, *(1,) * batch_axes)  # the slice
        i = jnp.arange(slice_time).reshape(slice_time, 1, *(1,) * batch_axes)  # the step in the slice
        short_length, num_longer = align((self.short_length, self.num_longer), s)
        begin = s * short_length + jnp.minimum(s, num_longer)
        self.steps_of_slices = self._swap_order(begin[None] + i)
        lengths = short_length + (s < num_longer).astype(s.dtype)
        lengths = lengths.reshape(*lengths.shape, *(1,) * (len(plan.batch_shape) - batch_axes))
        self.lengths = jnp.broadcast_to(lengths, (num_slices, *plan.batch_shape))
        self.valid = jnp.arange(slice_time).reshape(slice_time, *(1,) * self.lengths.ndim) < self.lengths[None]

    def slice_inputs(self, xs: Any) -> Any:
        """Cuts inputs [time, ...] into slices [time of a slice, slices, ...], in the order in which they are read."""
        return jax.tree.map(lambda x: self._take(x, self.steps_of_slices), xs)

    def repeat_outputs(self, ys: Any) -> Any:
        """Repeats each output of the last level [parts, ...] at all steps of its part: [time, ...]."""
        t = self._swap_order(jnp.arange(self.time).reshape(self.time, *(1,) * jnp.ndim(self.sequence_length)))
        short_length, num_longer = align((self.short_length, self.num_longer), t)
        after_longer = t - num_longer * (short_length + 1)  # negative in the longer slices
        slice_of_step = jnp.where(
            after_longer < 0,
            t // (short_length + 1),
            num_longer + after_longer // jnp.maximum(short_length, 1),
        )
        return jax.tree.map(lambda y: self._take(y, slice_of_step // self.slices_per_part), ys)

    def _swap_order(self, t: Array) -> Array:
        """Converts an index in the order of reading to an index in time, or the other way round."""
        return align(self.sequence_length, t) - 1 - t if self.reverse else t

    def _take(self, x: Array, indices: Array) -> Array:
        """Takes entries of each sequence from the leading axis; indices out of range are clipped.

        Args:
          x: An array [time, *batch, ...].
          indices: Integers [..., *batch], or [...] if all sequences have the same length.
        """
        batch_shape = jnp.shape(self.sequence_length)
        if not batch_shape:
            return jnp.take(x, indices, axis=0, mode="clip")
        feature_shape = x.shape[1 + len(batch_shape) :]
        num_indices = math.prod(indices.shape[: indices.ndim - len(batch_shape)])
        flat = indices.reshape(num_indices, *batch_shape, *(1,) * len(feature_shape))
        taken = jnp.take_along_axis(x, jnp.clip(flat, 0, x.shape[0] - 1), axis=0)
        return taken.reshape(*indices.shape, *feature_shape)
