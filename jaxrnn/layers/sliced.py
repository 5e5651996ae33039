"""A layer over slices of a sequence, all of them at once, and again over what comes of them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from jaxrnn import _check as check
from jaxrnn.layer import Layer, Params, Plan, State
from jaxrnn.layers._output_size import output_size
from jaxrnn.ops import at_last


@dataclass(frozen=True)
class Sliced(Layer):
    r"""A layer over slices of a sequence, all side by side, and again over the slices' last outputs, level by level.

    .. math::
        h^0_{s,i} &= L^0(x_{s,1}, \dots, x_{s,l})_i, \quad s = 1 \dots n^k \\
        h^p_{s,i} &= L^p(h^{p-1}_{ns-n+1,last}, \dots, h^{p-1}_{ns,last})_i, \quad s = 1 \dots n^{k-p}, p = 1 \dots k

    A sequence of :math:`T = l n^k` steps takes :math:`l + kn` of them one after the other instead of :math:`T`. Any
    other length is cut into slices of which the first ones are a step longer, by each sequence's own length; in one
    shorter than :math:`n^k` the last slices are empty, and no level reads anything of them.

    What the last level puts out, :math:`h^k_{1,i}`, is the output at all steps of the sequence's :math:`i`-th part. At
    its last step the output has therefore read the whole sequence; at all others it has read until the end of their
    part, which is the future. The state is the last level's: a sequence can be continued, and the lower levels begin
    anew at each slice. `resets` are refused: give sequences as a batch.

    Args:
      layer: the layer of each level, with parameters of its own at each.
      slices: into how many parts :math:`n` a sequence, and each of its parts, is cut.
      levels: how many times :math:`k` that is done.

    References: Z. Yu, G. Liu, "Sliced recurrent neural networks", 2018. Deviation: nothing is padded where
    :math:`n^k` does not divide :math:`T`.
    """

    layer: Layer
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
        if plan.resets is not None:
            raise ValueError(f"{self} slices each sequence as a whole, without resets: give packed ones as a batch")
        time = jax.tree.leaves(xs)[0].shape[0]
        if time == 0:  # nothing is read, but outputs have a shape
            one = jax.tree.map(lambda x: jnp.zeros((1, *x.shape[1:]), x.dtype), xs)
            padding = plan._replace(
                lengths=jnp.zeros(plan.batch_shape, int), valid=jnp.zeros((1, *plan.batch_shape), bool)
            )
            state, ys = self.run(params, one, state, key, padding)
            return state, jax.tree.map(lambda y: y[:0], ys)
        *k_lower, k_last = [None] * len(params) if key is None else jax.random.split(key, len(params))
        *p_lower, p_last = params
        even = isinstance(time, int) and time % self.slices**self.levels == 0 and plan.lengths is None
        cut = (_Even if even else _Uneven)(self.slices, self.slices**self.levels, time, plan)
        xs, lengths, valid = cut.take(xs), cut.lengths, cut.valid
        for level, (p, k) in enumerate(zip(p_lower, k_lower, strict=True)):
            shape = (self.slices ** (self.levels - level), *plan.batch_shape)
            slices = Plan(plan.loop, lengths=lengths, valid=valid, batch_shape=shape)
            _, ys = self.layer.run(p, xs, self.layer.initial_state(p, shape), k, slices)
            if lengths is None:
                last = jax.tree.map(lambda y: y[-1], ys)
            else:
                last = jax.tree.map(partial(at_last, lengths=lengths), ys)
                valid = self._steps(lengths > 0)
                lengths = valid.sum(0)
            xs = jax.tree.map(self._steps, last)
        whole = Plan(plan.loop, lengths=lengths, valid=valid, batch_shape=plan.batch_shape)
        state, ys = self.layer.run(p_last, xs, state, k_last, whole)
        return state, cut.spread(ys)

    def _steps(self, x: Array) -> Array:
        """What came of all slices as the steps of the next level's: [slices, slices of it, ...], without a last 1."""
        steps = x.reshape(len(x) // self.slices, self.slices, *x.shape[1:]).swapaxes(0, 1)
        return steps[:, 0] if steps.shape[1] == 1 else steps


class _Even:
    """Slices of one length, of sequences without padding."""

    lengths = None
    valid = None

    def __init__(self, parts: int, number: int, time: int, plan: Plan):
        self.parts, self.number, self.time, self.order = parts, number, time, -1 if plan.reverse else 1

    def take(self, xs: Any) -> Any:
        """Inputs [time, ...] as those of slices, [time of a slice, slices, ...], in the order they are read."""
        shape = (self.number, self.time // self.number)
        return jax.tree.map(lambda x: x[:: self.order].reshape(*shape, *x.shape[1:]).swapaxes(0, 1), xs)

    def spread(self, ys: Any) -> Any:
        """Outputs of the last level at all steps of its parts."""
        return jax.tree.map(lambda y: jnp.repeat(y, self.time // self.parts, axis=0)[:: self.order], ys)


class _Uneven:
    """Slices of each sequence's own length, padded to the longest; the first ones are a step longer than the others."""

    def __init__(self, parts: int, number: int, time: Any, plan: Plan):
        self.plan, self.time, self.each = plan, time, number // parts  # slices of each part
        self.length = time if plan.lengths is None else plan.lengths
        self.short = self.length // number  # steps of a slice
        self.longer = self.length % number  # how many slices have one more
        most = (time + number - 1) // number
        axes = jnp.ndim(self.length)
        s = jnp.arange(number).reshape(number, *(1,) * axes)
        i = jnp.arange(most).reshape(most, 1, *(1,) * axes)
        self._read = self._turned(s * self.short + jnp.minimum(s, self.longer) + i)
        lengths = self.short + (s < self.longer)
        lengths = lengths.reshape(*lengths.shape, *(1,) * (len(plan.batch_shape) - axes))
        self.lengths = jnp.broadcast_to(lengths, (number, *plan.batch_shape))
        self.valid = jnp.arange(most).reshape(most, *(1,) * self.lengths.ndim) < self.lengths

    def take(self, xs: Any) -> Any:
        return jax.tree.map(lambda x: self._pick(x, self._read), xs)

    def spread(self, ys: Any) -> Any:
        t = self._turned(jnp.arange(self.time).reshape(self.time, *(1,) * jnp.ndim(self.length)))
        rest = t - self.longer * (self.short + 1)  # counted from the first of the shorter slices
        s = jnp.where(rest < 0, t // (self.short + 1), self.longer + rest // jnp.maximum(self.short, 1))
        return jax.tree.map(lambda y: self._pick(y, s // self.each), ys)

    def _turned(self, t: Array) -> Array:
        """Where the step that is read as the t-th stands in time, and the other way round."""
        return self.length - 1 - t if self.plan.reverse else t

    def _pick(self, x: Array, at: Array) -> Array:
        """`x[at]` of each sequence: x [time, *batch, ...], at [..., *batch], or [...] if it is the same for all."""
        batch = jnp.shape(self.length)
        if not batch:
            return jnp.take(x, at, axis=0, mode="clip")
        rest = x.shape[1 + len(batch) :]
        flat = at.reshape(-1, *batch, *(1,) * len(rest))
        picked = jnp.take_along_axis(x, jnp.clip(flat, 0, x.shape[0] - 1), axis=0)
        return picked.reshape(*at.shape, *rest)
