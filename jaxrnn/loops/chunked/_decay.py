"""Products of decays within a chunk: the weight at one step of what an earlier step has written.

The weight of step j at step i is the exponential of the sum of the logarithms of the decays after j, up to i. Each sum
is computed from its own terms, not as a difference of two prefix sums, which would lose all precision after a step that
forgets everything. All terms are at most zero, so no exponential overflows.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

SMALL = 2  # largest size of blocks whose scores are computed without a matrix product


class NoDecay(NamedTuple):
    """No decay: all weights are 1. The methods are those of `KeyDecay`."""

    size: int  # number of steps of a chunk

    def scores(self, k: Array, q: Array, read: Array | None) -> tuple[Array, Array | None]:
        return _triangles(jnp.concatenate(_both(q, read), -2) @ k.mT)

    def since_start(self, a: Array, before: bool) -> Array:
        return a

    def until_end(self, b: Array) -> Array:
        return b

    def at_end(self, s: Array) -> Array:
        return s


class KeyDecay(NamedTuple):
    """A decay for each key. The number of steps is a power of two.

    The scores between the two halves of a block are a matrix product, because each weight is a product of two factors:
    one from step j to the middle, and one from the middle to step i. The scores within the halves follow recursively.
    """

    log: Array  # [..., steps, keys]

    def scores(self, k: Array, q: Array, read: Array | None) -> tuple[Array, Array | None]:
        """Returns the weighted products of what each step i reads with what each step j writes [..., steps i, steps j].

        Args:
          k: Keys under which step j writes [..., steps, keys].
          q: Queries of the matrix after step i, and so of what steps j <= i write.
          read: None, or queries of the matrix before step i, and so of what steps j < i write.
        """
        now = (q * k).sum(-1)[..., None, None]  # [..., blocks, steps of a block i, j]
        scores = [now] if read is None else [now, jnp.zeros_like(now)]
        *halves, _ = self._levels()
        for sums in halves:
            size = sums.through.shape[-2]
            earlier = jnp.exp(_half(sums.until_end, 0)) * _half(_blocks(k, size), 0)
            later = [jnp.exp(_half(sums.through, 1)) * _half(_blocks(q, size), 1)]
            if read is not None:
                later.append(jnp.exp(_half(sums.before, 1)) * _half(_blocks(read, size), 1))
            if size <= SMALL or k.shape[-1] == 1:
                across = [(rows[..., :, None, :] * earlier[..., None, :, :]).sum(-1) for rows in later]
            else:
                across = jnp.split(jnp.concatenate(later, -2) @ earlier.mT, len(later), -2)
            scores = [join_halves(*both) for both in zip(scores, across, strict=True)]
        first, *second = (x[..., 0, :, :] for x in scores)
        return first, second[0] if second else None

    def since_start(self, a: Array, before: bool) -> Array:
        """Returns `a` [..., steps, keys], times the weight at each step of the matrix at the start of the chunk."""
        return jnp.exp(self._levels()[-1].at(before)[..., 0, :, :]) * a

    def until_end(self, b: Array) -> Array:
        """Returns `b` [..., steps, keys], times the weight of each step at the end of the chunk."""
        return jnp.exp(self._levels()[-1].until_end[..., 0, :, :]) * b

    def at_end(self, s: Array) -> Array:
        """Returns the matrix `s` [..., keys, values] at the start of the chunk, times its weight at the end."""
        return jnp.exp(self.log.sum(-2))[..., None] * s

    def _levels(self) -> list[_Sums]:
        """Returns the sums within blocks of 1, 2, 4 ... steps, up to all steps."""
        one = self.log[..., None, :]
        levels = [_Sums(one, jnp.zeros_like(one), jnp.zeros_like(one))]
        while levels[-1].through.shape[-3] > 1:
            levels.append(levels[-1].doubled())
        return levels


class Decay(KeyDecay):
    """One decay for all keys of a step: `log` [..., steps, 1]."""

    def scores(self, k: Array, q: Array, read: Array | None) -> tuple[Array, Array | None]:
        weights = _weights(self.log)
        before = None if read is None else jnp.roll(weights, 1, axis=-2)
        products = jnp.concatenate(_both(q, read), -2) @ k.mT
        return _triangles(jnp.concatenate(_both(weights, before), -2) * products)


@jax.custom_jvp
def _weights(log: Array) -> Array:
    """Returns the weight at each step i of what each step j <= i writes [..., steps i, steps j].

    One matrix product differentiates all sums of logarithms at once, instead of a product of two weights at each level.
    """
    one = jnp.ones_like(log)
    return KeyDecay(log).scores(one, one, None)[0]


@_weights.defjvp
def _derivative_of_weights(primals: tuple[Array], tangents: tuple[Array]) -> tuple[Array, Array]:
    weights, (tangent,) = _weights(*primals), tangents
    size = tangent.shape[-2]
    after = jnp.where(_earlier(size, True), tangent, 0)  # [i, j]: the tangent at i if it is after j
    sums = jnp.matmul(jnp.asarray(_earlier(size, False), after.dtype), after, precision="highest")
    return weights, weights * sums


class Restarts(NamedTuple):
    """A decay, and steps before which the matrix restarts from zero. The methods are those of `KeyDecay`."""

    decay: NoDecay | Decay | KeyDecay
    segment: Array  # int [..., steps], incremented by each restart
    before: Array  # the segment before the first step [..., 1]

    def scores(self, k: Array, q: Array, read: Array | None) -> tuple[Array, Array | None]:
        same = self.segment[..., :, None] == self.segment[..., None, :]
        q_k, read_k = self.decay.scores(k, q, read)
        return jnp.where(same, q_k, 0), None if read_k is None else jnp.where(same, read_k, 0)

    def since_start(self, a: Array, before: bool) -> Array:
        return jnp.where((self.segment == self.before)[..., None], self.decay.since_start(a, before), 0)

    def until_end(self, b: Array) -> Array:
        return jnp.where((self.segment == self.segment[..., -1:])[..., None], self.decay.until_end(b), 0)

    def at_end(self, s: Array) -> Array:
        return jnp.where((self.segment[..., -1:] == self.before)[..., None], self.decay.at_end(s), 0)


class _Sums(NamedTuple):
    """Sums of the logarithms of decays within blocks, each an array [..., blocks, steps of a block, keys]."""

    through: Array  # from the start of the block to the step
    before: Array  # from the start of the block to the step before
    until_end: Array  # from the step after to the end of the block

    def at(self, before: bool) -> Array:
        return self.before if before else self.through

    def doubled(self) -> _Sums:
        """Returns the sums within blocks of twice the size."""
        through, before, until_end = map(pairs, self)
        total = through[..., -1:, :]
        first, second = total[..., 0, :, :], total[..., 1, :, :]
        through, before = (jnp.concatenate([x[..., 0, :, :], x[..., 1, :, :] + first], -2) for x in (through, before))
        until_end = jnp.concatenate([until_end[..., 0, :, :] + second, until_end[..., 1, :, :]], -2)
        return _Sums(through, before, until_end)


def _both(first: Array, second: Array | None) -> tuple[Array, ...]:
    return (first,) if second is None else (first, second)


def _triangles(scores: Array) -> tuple[Array, Array | None]:
    """Splits scores [..., rows, steps], and keeps those of steps j <= i in the first part and j < i in the second."""
    size = scores.shape[-1]
    first, second = scores[..., :size, :], scores[..., size:, :]
    first = jnp.where(_earlier(size, False), first, 0)
    return first, jnp.where(_earlier(size, True), second, 0) if second.shape[-2] else None


def join_halves(halves: Array, across: Array) -> Array:
    """Makes lower triangular blocks [..., blocks, 2 n, 2 n] from those of their halves.

    Args:
      halves: The diagonal blocks [..., 2 blocks, n, n], alternately of first and second halves.
      across: The blocks below them [..., blocks, n, n].
    """
    both = pairs(halves)
    first = jnp.concatenate([both[..., 0, :, :], jnp.zeros_like(across)], -1)
    second = jnp.concatenate([across, both[..., 1, :, :]], -1)
    return jnp.concatenate([first, second], -2)


def _blocks(x: Array, size: int) -> Array:
    """Turns [..., steps, keys] into [..., blocks, steps of a block, keys]."""
    return x.reshape(*x.shape[:-2], x.shape[-2] // size, size, x.shape[-1])


def pairs(x: Array) -> Array:
    """Turns [..., blocks, ...], with two axes at the end, into [..., pairs of blocks, 2, ...]."""
    return x.reshape(*x.shape[:-3], x.shape[-3] // 2, 2, *x.shape[-2:])


def _half(x: Array, which: int) -> Array:
    """Returns the first (0) or the second (1) blocks of all pairs of blocks."""
    return pairs(x)[..., which, :, :]


def _earlier(size: int, before: bool) -> np.ndarray:
    """Returns a mask [i, j] of the steps j <= i, or if `before` j < i."""
    return np.tri(size, k=-1 if before else 0, dtype=bool)
