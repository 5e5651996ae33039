"""Sequences with missing steps, for the argument `mask` of `unroll`.

The present steps of each sequence are moved to its beginning and run as a shorter sequence.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from jaxrnn.ops import spread_like, where


class Present(NamedTuple):
    """The present steps of a batch of sequences. All arrays but `lengths` are [time, *batch]."""

    steps: Array  # the present steps of each sequence, in order; then the missing ones
    places: Array  # the index in `steps` of each present step
    present: Array  # whether a step is present
    lengths: Array  # int [*batch], the number of present steps

    @staticmethod
    def of(mask: Array, lengths: Array | None) -> Present:
        """Finds the present steps: those where `mask` is True, before the length of their sequence."""
        if lengths is not None:
            mask = mask & (jnp.arange(mask.shape[0]).reshape(-1, *(1,) * lengths.ndim) < lengths)
        count = jnp.cumsum(mask, axis=0, dtype=int)
        return Present(jnp.argsort(~mask, axis=0, stable=True), jnp.maximum(count - 1, 0), mask, mask.sum(0, dtype=int))

    def gather(self, xs: Any) -> Any:
        """Moves the present steps of inputs [time, *batch, ...] to the beginning."""
        return jax.tree.map(lambda x: _take(x, self.steps), xs)

    def gather_resets(self, resets: Array | None) -> Array | None:
        """Moves resets [time, *batch] along with the steps; that of a missing step takes effect at the next one."""
        if resets is None:
            return None
        sequence = _take(jnp.cumsum(resets, axis=0, dtype=int), self.steps)
        return sequence > jnp.concatenate([jnp.zeros_like(sequence[:1]), sequence])[: sequence.shape[0]]

    def ends_restarted(self, resets: Array, lengths: Array | None, reverse: bool) -> Array:
        """Returns for each sequence whether it restarts at a missing step that no present step follows: [*batch]."""
        steps = jnp.arange(resets.shape[0]).reshape(-1, *(1,) * (resets.ndim - 1))
        if lengths is not None:
            resets = resets & (steps < lengths)  # ignored in the padding
        count = jnp.cumsum(self.present, axis=0, dtype=int)
        if reverse:  # a reset at t is between t and t - 1
            return (resets[1:] & (count[:-1] == 0)).any(0)
        return (resets & ~self.present & (count == self.lengths)).any(0)

    def scatter(self, ys: Any) -> Any:
        """Moves the outputs of `gather`ed inputs back to their steps, with zeros at missing steps."""
        ys = jax.tree.map(lambda y: _take(y, self.places), ys)
        return where(self.present, ys, jax.tree.map(lambda y: jnp.zeros((), y.dtype), ys))


@jax.jit
def gather_present(
    mask: Array, xs: Any, lengths: Array | None, resets: Array | None
) -> tuple[Present, Any, Array | None]:
    """Returns the present steps, and the inputs and resets at them."""
    arguments = (mask, xs, lengths, resets)
    mask, xs, lengths, resets = spread_like(arguments, arguments)
    present = Present.of(mask, lengths)
    return present, present.gather(xs), present.gather_resets(resets)


@jax.jit
def scatter_present(present: Present, ys: Any) -> Any:
    """Returns outputs at their steps, with zeros at missing steps."""
    return present.scatter(ys)


def _take(x: Array, steps: Array) -> Array:
    """Takes entries of `x` [time, *batch, ...] at `steps` [time, *batch] of each sequence."""
    return jnp.take_along_axis(x, steps.reshape(steps.shape + (1,) * (x.ndim - steps.ndim)), axis=0)
