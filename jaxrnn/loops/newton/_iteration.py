"""Solves a recurrence for all steps at once, by corrections that need not be exact.

A recurrence is a function `apply` of guessed values for all steps. Its result at step t depends only on the guess for
step t - 1. The values are right if `apply` returns them unchanged. For any corrections, each iteration finds at least
one more step: if all steps before step t are right, `apply` returns the right value for step t.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from jaxrnn.loops.newton._forward_only import forward_only
from jaxrnn.ops import spread_like, where

Leaves = list[Array]


class Correction(NamedTuple):
    """The linear recurrence from which the corrections follow.

    Attributes:
      prepare: Computes the Jacobians from the guess.
      propagate: Solves change[t] = residual[t] + jacobian[t] change[t - 1], given the Jacobians and the residuals of
        all steps. Returns jacobian[t] change[t - 1].
    """

    prepare: Callable[[Leaves], Any]
    propagate: Callable[[Any, Leaves], Leaves]


class Tolerance(NamedTuple):
    """Decides which residuals count as zero.

    Attributes:
      relative: The largest residual of an element, relative to the largest element that it mixes with, before the step
        or after it.
      mixing: For each leaf, the axes, counted from the end, along which elements mix.
      numbers: For each leaf, a number that is the same for the real and the imaginary part of a complex array.
    """

    relative: float
    mixing: tuple[tuple[int, ...], ...]
    numbers: tuple[int, ...]

    def accepts(self, applied: Leaves, values: Leaves, ndim: int) -> Array:
        """Returns whether all residuals count as zero, for each step and sequence (`ndim` axes)."""
        scales: dict[int, Array] = {}
        for new, old, axes, number in zip(applied, values, self.mixing, self.numbers, strict=True):
            after, before = (jnp.abs(_finite_or_zero(x)).max(axes, initial=0, keepdims=True) for x in (new, old))
            scale = jnp.maximum(after, shift(before, before[0]))
            scales[number] = jnp.maximum(scales[number], scale) if number in scales else scale
        right = []
        for new, old, number in zip(applied, values, self.numbers, strict=True):
            near = jnp.abs(_difference(new, old)) <= self.relative * scales[number]
            near &= jnp.isfinite(new) & jnp.isfinite(old)
            right.append((near | (new == old) | (jnp.isnan(new) & jnp.isnan(old))).all(tuple(range(ndim, new.ndim))))
        return jnp.stack(right).all(0)


def solve(
    apply: Callable[[Leaves], Leaves], correction: Correction, guess: Leaves, begins: Array, tolerance: Tolerance
) -> tuple[Leaves, Array]:
    """Returns the values [time, *batch, ...] that `apply` does not change, and the number of iterations [*batch].

    A step is known if all steps before it, since the beginning of its sequence, are right up to the tolerance. Its
    value is then that of `apply`, even if it is NaN, and does not change again. Other values that are not finite are
    replaced, so that they do not spread.

    Args:
      apply: The recurrence.
      correction: The corrections of guesses.
      guess: The first guess.
      begins: Booleans [time, *batch], True where a step does not depend on the one before it.
      tolerance: Which residuals count as zero.
    """
    length = begins.shape[0]
    segment = _last_true(begins.at[0].set(True))

    def known_steps(right: Array) -> tuple[Array, Array]:
        """Returns which steps are right together with all steps before them, and which steps follow only such steps."""
        settled = _last_true(~right) < segment
        return settled, begins | _shift(settled, True)

    def iterate(carry: Any) -> Any:
        values, settled, count, _ = carry
        applied = apply(values)
        right = tolerance.accepts(applied, values, settled.ndim)
        settled, known = known_steps(right | settled)
        unfinished = ~settled.all(0)

        def correct(values: Leaves) -> Leaves:
            residuals = [
                where(~settled, _difference(new, old), jnp.zeros((), new.dtype))
                for new, old in zip(applied, values, strict=True)
            ]
            changes = correction.propagate(correction.prepare(values), residuals)
            corrected = []
            for new, change, old in zip(applied, changes, values, strict=True):
                change = where(~known, _finite_or_zero(change), jnp.zeros((), change.dtype))
                usable = _leading(known, new) | jnp.isfinite(new + change)
                replaced = jnp.where(usable, new + change, _finite_or_zero(old))
                corrected.append(where(~settled, replaced, old))
            return _spread_infinities(corrected, known)

        values = jax.lax.cond(unfinished.any(), correct, lambda values: values, values)
        return values, settled, count + unfinished.astype(count.dtype), unfinished.any()

    def should_continue(carry: Any) -> Any:
        _, _, count, unfinished = carry
        return unfinished & (count.max(initial=0) <= length)

    count = jnp.zeros(begins.shape[1:], jnp.int32)
    start = guess, jnp.zeros(begins.shape, bool), count, jnp.array(True)
    start = spread_like((guess, begins), start)
    values, _, count, _ = jax.lax.while_loop(should_continue, iterate, start)
    return [forward_only(x) for x in values], count


def shift(values: Array, first: Array) -> Array:
    """Returns the values of the step before each step, which for the first step is `first`."""
    return jnp.concatenate([first[None].astype(values.dtype), values[:-1]])


def _shift(flags: Array, first: bool) -> Array:
    return jnp.concatenate([jnp.full((1, *flags.shape[1:]), first), flags[:-1]])


def _leading(flags: Array, like: Array) -> Array:
    return flags.reshape(*flags.shape, *(1,) * (like.ndim - flags.ndim))


def _last_true(flags: Array) -> Array:
    """Returns the last step at or before each step where a flag is True, or -1."""
    steps = jnp.arange(flags.shape[0], dtype=jnp.int32).reshape(-1, *(1,) * (flags.ndim - 1))
    return jax.lax.cummax(jnp.where(flags, steps, -1), axis=0)


def _finite_or_zero(x: Array) -> Array:
    return jnp.where(jnp.isfinite(x), x, 0)


def _difference(x: Array, y: Array) -> Array:
    """Returns x - y, or zero where one of them is not finite."""
    finite = jnp.isfinite(x) & jnp.isfinite(y)
    return jnp.where(finite, x, 0) - jnp.where(finite, y, 0)


def _spread_infinities(values: Leaves, known: Array) -> Leaves:
    """Guesses that an element that is known to be NaN or infinite remains so to the end of its sequence."""

    def spread(values: Leaves) -> Leaves:
        last = _last_true(known)
        guesses = []
        for x in values:
            of_last = jnp.take_along_axis(x, _leading(last, x), axis=0)
            guesses.append(jnp.where(_leading(known, x) | jnp.isfinite(of_last), x, of_last))
        return guesses

    found = jnp.stack([(_leading(known, x) & ~jnp.isfinite(x)).any() for x in values]).any()
    return jax.lax.cond(found, spread, lambda values: values, values)
