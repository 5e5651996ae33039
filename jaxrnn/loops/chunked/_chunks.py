"""Runs many steps of matrices: matrix products within each chunk, and a scan over the chunks."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from jaxrnn._tracing import ignoring_unused
from jaxrnn.loops.chunked._decay import Decay, KeyDecay, NoDecay, Restarts, join_halves, pairs

SMALL = 8  # largest size of blocks that are not multiplied by a matrix product, which is slow for many small blocks


class Factors(NamedTuple):
    """The factors of all steps, real and finite, with the axes [time, matrices, ...]."""

    q: Array  # [time, matrices, keys]
    k: Array  # [time, matrices, keys]
    v: Array  # [time, matrices, values]
    log_decay: Array | None  # [time, matrices, 1 or keys]
    read: Array | None  # [time, matrices, keys]
    erase: Array | None  # [time, matrices, keys]
    segment: Array | None  # int [time, matrices], incremented where the matrix restarts from zero; None: no restarts


def run_chunks(size: int, factors: Factors, s: Array) -> tuple[Array, Array]:
    """Returns the matrix after the last step, and what the queries read at all steps [time, matrices, values].

    Only the factors and the matrices between chunks are saved for the backward pass. The rest is recomputed, which
    takes no longer than saving it.

    Args:
      size: Number of steps of a chunk, a power of two, which divides the number of steps.
      factors: The factors of all steps.
      s: The matrix before the first step [matrices, keys, values].
    """
    time = factors.q.shape[0]
    chunks = jax.tree.map(lambda x: x.reshape(time // size, size, *x.shape[1:]), factors)
    segment = chunks.segment
    before = None if segment is None else jnp.concatenate([jnp.zeros_like(segment[:1, -1]), segment[:-1, -1]])

    @jax.checkpoint
    def run(s: Array, chunk: tuple[Factors, Array | None]) -> tuple[Array, Array]:
        factors = jax.tree.map(lambda x: jnp.moveaxis(x, 0, 1), chunk[0])  # [matrices, steps, ...]
        before = None if chunk[1] is None else chunk[1][:, None]
        is_finite = jnp.isfinite(s)
        after, reads = _run_chunk(_decay(factors, before), factors, jnp.where(is_finite, s, 0))
        # In a product, zero times a value that is not finite would spoil the steps after a restart.
        bad = ~is_finite.all(-2)[:, None]
        if factors.segment is not None:
            bad = bad & (factors.segment == before)[..., None]
        bad = jnp.broadcast_to(bad, reads.shape)
        return spoil(after, bad[:, -1:]), jnp.moveaxis(spoil(reads, bad), 1, 0)

    if time == size:
        return run(s, jax.tree.map(lambda x: x[0], (chunks, before)))
    s, reads = jax.lax.scan(run, s, (chunks, before))
    return s, reads.reshape(time, *reads.shape[2:])


def _decay(factors: Factors, before: Array | None) -> Any:
    """Returns the decay in a chunk, given the segment before its first step [matrices, 1]."""
    log, segment = factors.log_decay, factors.segment
    if log is None:
        decay: Any = NoDecay(factors.q.shape[1])
    else:
        decay = Decay(log) if log.shape[-1] == 1 else KeyDecay(log)
    return decay if segment is None or before is None else Restarts(decay, segment, before)


def spoil(x: Array, bad: Array) -> Array:
    """Multiplies by NaN where `bad` is True, so that values and derivatives are NaN there."""
    return _times(None, x, jnp.where(bad, jnp.asarray(jnp.nan, x.dtype), 1))


_times = ignoring_unused(lambda _, x, factor: x * factor)


def _run_chunk(decay: Any, factors: Factors, s: Array) -> tuple[Array, Array]:
    """Returns the matrix after a chunk, and what its queries read [matrices, steps, values].

    A step reads from the matrix at the start of the chunk, and from what the steps before it have written since: values
    v under keys k, and with a delta rule, values u that depend on each other.
    """
    q, k, v, _, read, erase, _ = factors
    q_k, read_k = decay.scores(k, q, read)
    if read is None:
        return decay.at_end(s) + decay.until_end(k).mT @ v, decay.since_start(q, False) @ s + q_k @ v

    starts = jnp.concatenate([decay.since_start(q, False), decay.since_start(read, True)], -2) @ s
    reads, found = jnp.split(starts, 2, -2)
    if erase is None:  # u = v - found - read_k @ u, under the keys
        u = inverse_of_one_minus(-read_k) @ (v - found)
        return decay.at_end(s) + decay.until_end(k).mT @ u, reads + q_k @ u

    # u = found + read_k @ v + read_u @ u, under keys of its own
    q_u, read_u = decay.scores(erase, q, read)
    u = inverse_of_one_minus(read_u) @ (found + read_k @ v)
    after = decay.at_end(s) + decay.until_end(k).mT @ v + decay.until_end(erase).mT @ u
    return after, reads + q_k @ v + q_u @ u


@jax.custom_jvp
def inverse_of_one_minus(a: Array) -> Array:
    """Returns the inverse of 1 - a, where `a` [..., n, n] is strictly lower triangular and n a power of two.

    The inverse of each block is computed from those of its halves, by two products for all blocks together. This is
    faster than solving one triangular system after the other.
    """
    size = a.shape[-1]
    inverse = jnp.ones_like(a[..., :1])[..., None]  # [..., blocks, steps of a block, steps of a block]
    while inverse.shape[-1] < size:
        half = inverse.shape[-1]
        blocks = a.reshape(*a.shape[:-2], size // (2 * half), 2, half, size // (2 * half), 2, half)
        across = jnp.moveaxis(jnp.diagonal(blocks[..., 1, :, :, 0, :], axis1=-4, axis2=-2), -1, -3)
        first, second = pairs(inverse)[..., 0, :, :], pairs(inverse)[..., 1, :, :]
        inverse = join_halves(inverse, _product(_product(second, across), first))
    return inverse[..., 0, :, :]


def _product(a: Array, b: Array) -> Array:
    """Returns a @ b, where the last two axes of both are of the same size."""
    return (a[..., :, :, None] * b[..., None, :, :]).sum(-2) if a.shape[-1] <= SMALL else a @ b


@inverse_of_one_minus.defjvp
def _derivative_of_inverse(primals: tuple[Array], tangents: tuple[Array]) -> tuple[Array, Array]:
    inverse = inverse_of_one_minus(*primals)
    return inverse, inverse @ tangents[0] @ inverse
