"""Runs `Chunked`: converts the steps of a cell to real, finite factors, and the results to its state and outputs."""

from __future__ import annotations

import math
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxrnn._kinds import with_dtypes_of
from jaxrnn._matrix_cell import MatrixCell, MatrixMemory, MatrixRead, MatrixUpdate
from jaxrnn._tracing import ignoring_unused, widen
from jaxrnn.layer import Params, State, Steps
from jaxrnn.loops._unused import IgnoringUnused
from jaxrnn.loops.chunked._chunks import Factors, run_chunks, spoil
from jaxrnn.ops import spread_like, to_complex, where


class Marks(NamedTuple):
    """Valid steps, and steps before which the state restarts: booleans [time, *batch] or None."""

    valid: Array | None
    restarts: Array | None

    def over(self, ndim: int) -> Marks:
        """Returns the marks with `ndim` axes, by appending axes of size 1."""
        return jax.tree.map(lambda x: x.reshape(*x.shape, *(1,) * (ndim - x.ndim)), self)


def split_state(cell: MatrixCell, state: State) -> tuple[MatrixMemory, tuple[Any, ...]]:
    """Returns the memory, and the two fields of the shifted input: nothing if the cell does not shift."""
    return cell.memory(state), tuple(state[-2:]) if cell.shifts else ()


def join_state(cell: MatrixCell, memory: MatrixMemory, shifted: tuple[Any, ...]) -> State:
    return cell.state_type(*(part for part in memory if part is not None), *shifted)


class Inputs(NamedTuple):
    """What the steps of a cell read, in the order in which they are read."""

    zs: Any  # the projected inputs; if the cell shifts, those that `shift` returns
    update: MatrixUpdate
    marks: Marks
    shifted: tuple[Any, ...]  # of the last state, see `split_state`

    @staticmethod
    def of(cell: MatrixCell, params: Params, shifted: tuple[Any, ...], steps: Steps) -> Inputs:
        """Returns what the steps read, given `shifted` of the state before the first step."""
        zs = steps.project(IgnoringUnused.of(cell), params)
        zs, valid, restarts = jax.tree.map(partial(in_order, steps), (zs, steps.valid, steps.restarts))
        marks = Marks(valid, restarts if valid is None or restarts is None else restarts & valid)
        if cell.shifts:
            zs, shifted = _shift(cell, zs, marks, shifted, cell.initial_state(params), steps.length)
        return Inputs(zs, ignoring_unused(cell.factors)(params, zs), marks, shifted)


def prepare(cell: MatrixCell, params: Params, state: State, steps: Steps) -> tuple[MatrixUpdate, State]:
    """Returns the shapes of the factors, and the state with the dtypes that its memory has during a run."""
    first = steps.replace_varying(jax.tree.map(lambda x: x[:1], steps.varying))

    def run(params: Params, state: State) -> tuple[MatrixUpdate, MatrixMemory]:
        memory, shifted = split_state(cell, state)
        inputs = Inputs.of(cell, params, shifted, first)
        return inputs.update, run_memory(cell, 1, memory, inputs)[0]

    update, after = jax.eval_shape(run, params, state)
    memory, shifted = split_state(cell, state)
    return update, join_state(cell, jax.tree.map(lambda x, like: x.astype(like.dtype), memory, after), shifted)


def in_order(steps: Steps, x: Array) -> Array:
    """Converts an array between the order of time and the order in which the steps are read."""
    return x[::-1] if steps.reverse else x


def run_all(cell: MatrixCell, chunk: int, params: Params, state: State, steps: Steps) -> tuple[State, Any]:
    """Runs a cell over all steps."""
    memory, shifted = split_state(cell, state)
    inputs = Inputs.of(cell, params, shifted, steps)
    memory, read = run_memory(cell, chunk, memory, inputs)
    ys = ignoring_unused(cell.output)(params, read, inputs.zs)
    after = with_dtypes_of(state, join_state(cell, memory, inputs.shifted))
    if not steps.length:
        after = state
    elif steps.valid is not None:  # a sequence without steps keeps its state, even if a part of it is NaN
        after = where(steps.valid.any(0), after, state)
    return after, jax.tree.map(partial(in_order, steps), ys)


def run_memory(cell: MatrixCell, chunk: int, memory: MatrixMemory, inputs: Inputs) -> tuple[MatrixMemory, MatrixRead]:
    """Returns the memory after the last step, and what all steps read."""
    memory, update, marks = aligned(memory, inputs)
    s = memory.s.mT if cell.values_first else memory.s
    lead = update.k.shape[:-1]  # [time, *batch, heads]
    time = lead[0]
    update, m = _stabilized(update, memory.m, marks)
    values = update.v
    if memory.n is not None:  # the normalizer is one more column
        values = jnp.concatenate([values, jnp.ones_like(values[..., :1])], -1)
        s = jnp.concatenate([s, memory.n[..., None]], -1)
    update = update._replace(v=values)
    size = 1 << max(min(chunk, time) - 1, 0).bit_length()
    update, s, turn = _real(update, s, marks, size)
    factors, bad = _finite(update, marks)
    s = s.astype(jnp.result_type(s, *jax.tree.leaves(factors._replace(segment=None))))
    if time:
        number = math.prod(lead[1:])  # not -1, because there may be none
        flat = jax.tree.map(lambda x: x.reshape(time, number, *x.shape[len(lead) :]), factors)
        s_after, reads = run_chunks(size, _padded(flat, -time % size), s.reshape(number, *s.shape[-2:]))
        reads = reads[:time].reshape(*lead, reads.shape[-1])
        s_after = s_after.reshape(s.shape)
        reads = spoil(reads, bad | ~jnp.isfinite(update.q).all(-1, keepdims=True))
        s_after = spoil(s_after, bad[-1][..., None, :])
    else:
        s_after, reads = s, jnp.zeros((*lead, s.shape[-1]), s.dtype)
    if turn is not None:
        s_after = turn * to_complex(*jnp.split(s_after, 2, axis=-2))
    n_after = normalizer = None
    if memory.n is not None:
        s_after, n_after = s_after[..., :-1], s_after[..., -1]
        reads, normalizer = reads[..., :-1], reads[..., -1]
    m_after = None if m is None else (m[-1] if time else memory.m)
    return MatrixMemory(s_after.mT if cell.values_first else s_after, n_after, m_after), MatrixRead(
        reads, normalizer, m
    )


def aligned(memory: MatrixMemory, inputs: Inputs) -> tuple[MatrixMemory, MatrixUpdate, Marks]:
    """Returns the memory, and the factors and marks of all steps with the same batch axes, in wide dtypes."""
    memory, update = widen((memory, inputs.update))
    lead = (len(update.k), *memory.s.shape[:-2])  # [time, *batch, heads]
    update = MatrixUpdate(*(_over(lead, name, x) for name, x in update._asdict().items()))
    return memory, update, inputs.marks.over(len(lead) + 1)


def _over(lead: tuple[int, ...], name: str, x: Array | None) -> Any:
    """Broadcasts a factor to the axes [time, *batch, heads]. An angle may keep batch axes of size 1."""
    if x is None:
        return None
    features = x.ndim if name == "log_gain" else x.ndim - 1
    shape = (lead[0], *x.shape[1:features]) if name == "angle" and x.ndim > len(lead) else lead
    return jnp.broadcast_to(x, (*shape, *x.shape[features:]))


def _stabilized(update: MatrixUpdate, m: Array | None, marks: Marks) -> tuple[MatrixUpdate, Array | None]:
    """Returns the update with the gain multiplied into its keys and no effect in the padding, and all stabilizers."""
    k, log_decay, gain = update.k, update.log_decay, update.log_gain
    if gain is not None and m is not None:
        log = jnp.zeros_like(gain) if log_decay is None else log_decay[..., 0]
        ms = StabilizerMaps.of(update, marks).apply(m[None])
        before = jnp.concatenate([m[None], ms])[:-1]
        before = before if marks.restarts is None else jnp.where(marks.restarts[..., 0], 0, before)
        k = _gained(None, gain - ms, k)
        log_decay, m = (log + before - ms)[..., None], ms
    erase, valid = update.erase, marks.valid
    if valid is not None:
        k, log_decay, erase = jax.tree.map(lambda x: jnp.where(valid, x, 0), (k, log_decay, erase))
    return update._replace(k=k, log_decay=log_decay, erase=erase), m


_gained = ignoring_unused(lambda _, log_gain, k: jnp.exp(log_gain)[..., None] * k)


class StabilizerMaps(NamedTuple):
    """Maps of the stabilizer, m -> max(log_decay + m, gain), or the constant gain where it restarts."""

    restarts: Array
    log_decay: Array
    gain: Array

    @staticmethod
    def identity(m: Array) -> StabilizerMaps:
        return StabilizerMaps(jnp.zeros_like(m, bool), jnp.zeros_like(m), jnp.full_like(m, -jnp.inf))

    @staticmethod
    def of(update: MatrixUpdate, marks: Marks) -> StabilizerMaps:
        """Returns the maps of the stabilizer before the first step to those after each step, given gains."""
        gain: Any = update.log_gain
        log_decay = jnp.zeros_like(gain) if update.log_decay is None else update.log_decay[..., 0]
        restarts = jnp.zeros_like(gain, bool)
        if marks.restarts is not None:
            restarts = restarts | marks.restarts[..., 0]
            gain = jnp.where(restarts, jnp.maximum(log_decay, gain), gain)  # from a stabilizer of zero
        if marks.valid is not None:
            valid = marks.valid[..., 0]
            log_decay, gain = jnp.where(valid, log_decay, 0), jnp.where(valid, gain, -jnp.inf)
        return jax.lax.associative_scan(StabilizerMaps.then, StabilizerMaps(restarts, log_decay, gain))

    def then(self, later: StabilizerMaps) -> StabilizerMaps:
        """Returns the maps that apply these first and then others."""
        log_decay, gain = self.log_decay + later.log_decay, jnp.maximum(later.log_decay + self.gain, later.gain)
        return StabilizerMaps(
            self.restarts | later.restarts,
            jnp.where(later.restarts, later.log_decay, log_decay),
            jnp.where(later.restarts, later.gain, gain),
        )

    def apply(self, m: Array) -> Array:
        return jnp.where(self.restarts, self.gain, jnp.maximum(self.log_decay + m, self.gain))


def _real(update: MatrixUpdate, s: Array, marks: Marks, size: int) -> tuple[MatrixUpdate, Array, Array | None]:
    """Converts complex keys, queries and matrices to real ones with twice as many keys.

    The rotation is removed by a change to coordinates that rotate with the matrix.

    Returns:
      The update without an angle, the matrix, and its total rotation after the last step, a complex factor or None.
    """
    if update.angle is None:
        return update, s, None
    angle = update.angle if marks.valid is None else jnp.where(marks.valid, update.angle, 0)
    turns = _turns(angle, size)
    q, k = update.q * turns, update.k * turns.conj()
    last = turns[-1] if len(turns) else jnp.ones(turns.shape[1:], turns.dtype)
    log_decay = update.log_decay
    if log_decay is not None and log_decay.shape[-1] > 1:
        log_decay = jnp.concatenate([log_decay, log_decay], -1)
    update = update._replace(
        q=jnp.concatenate([q.real, -q.imag], -1), k=jnp.concatenate([k.real, k.imag], -1), log_decay=log_decay
    )
    return update, jnp.concatenate([s.real, s.imag], -2), last[..., None]


def _turns(angle: Array, size: int) -> Array:
    """Returns the rotation from the first step to each step, as complex numbers.

    Only the rotation from one step to another matters. Its error grows with their distance, not with their time,
    because steps of a chunk share the rotation up to the chunk, which is a product of that up to the chunk before.
    """
    time = len(angle)
    chunks = -(-time // size)
    angle = jnp.pad(angle, [(0, chunks * size - time)] + [(0, 0)] * (angle.ndim - 1))
    angle = angle.reshape(chunks, size, *angle.shape[1:])
    within = jax.lax.associative_scan(jnp.multiply, to_complex(jnp.cos(angle), jnp.sin(angle)), axis=1)

    def next_start(start: Array, turn: Array) -> tuple[Array, Array]:
        after = start * turn
        return after * to_complex(1.5 - 0.5 * (after.real**2 + after.imag**2)), start  # of length 1 again

    first = spread_like(within, jnp.ones(within.shape[2:], within.dtype))
    _, starts = jax.lax.scan(next_start, first, within[:, -1])
    turns = starts[:, None] * within
    return turns.reshape(chunks * size, *turns.shape[2:])[:time]


def _finite(update: MatrixUpdate, marks: Marks) -> tuple[Factors, Array]:
    """Replaces NaN and infinity by zero, so that they do not spread to other steps in matrix products.

    Returns:
      The factors, and a mask [time, ..., values] of the columns of the matrix that must be NaN after each step, because
      a factor of that step, or of an earlier one since the last restart, was NaN or infinite.
    """
    q, k, v, read, erase = update.q, update.k, update.v, update.read, update.erase
    log_decay, restarts = update.log_decay, marks.restarts
    if log_decay is not None:
        smallest = 2 * np.log(jnp.finfo(log_decay.dtype).tiny)  # whose exponential is zero
        log_decay = jnp.maximum(log_decay, smallest)
    bad = ~jnp.isfinite(v)
    for x in jax.tree.leaves((k, log_decay, read, erase)):
        bad = bad | ~jnp.isfinite(x).all(-1, keepdims=True)
    segment = None
    if restarts is not None:
        segment = jnp.broadcast_to(jnp.cumsum(restarts[..., 0].astype(np.int32), 0), k.shape[:-1])
    finite = jax.tree.map(lambda x: jnp.where(jnp.isfinite(x), x, 0), Factors(q, k, v, log_decay, read, erase, None))
    return finite._replace(segment=segment), _since_restart(bad, restarts)


def _since_restart(bad: Array, restarts: Array | None) -> Array:
    """Returns whether any step since the last restart is bad."""
    if restarts is None:
        return jax.lax.associative_scan(jnp.logical_or, bad)

    def compose(first: Any, second: Any) -> Any:
        (cut, before), (restarts, now) = first, second
        return cut | restarts, now | (before & ~restarts)

    return jax.lax.associative_scan(compose, (jnp.broadcast_to(restarts, (*bad.shape[:-1], 1)), bad))[1]


def _padded(factors: Factors, number: int) -> Factors:
    """Appends steps that do not change the matrix."""

    def pad(name: str, x: Array | None) -> Any:
        if x is None or not number:
            return x
        widths = [(0, number)] + [(0, 0)] * (x.ndim - 1)
        return jnp.pad(x, widths, mode="edge" if name == "segment" else "constant")

    return Factors(*(pad(name, x) for name, x in factors._asdict().items()))


def _shift(
    cell: MatrixCell, zs: Any, marks: Marks, shifted: tuple[Any, ...], initial: State, time: int
) -> tuple[Any, tuple[Any, ...]]:
    """Applies `cell.shift` to all steps. Returns the projected inputs, and the last two fields of the last state."""
    now, before = shifted
    later = with_dtypes_of(before, cell.passed_on(zs))
    # Padding is at one end, so a step after padding is the first one.
    earlier = later if marks.valid is None else where(marks.valid, later, before)
    earlier = jax.tree.map(lambda first, rest: jnp.concatenate([first[None], rest])[:-1], before, earlier)
    if marks.restarts is not None:
        earlier = where(~marks.restarts, earlier, initial[-1])
    zs = ignoring_unused(lambda _, z, before: cell.shift(z, before))(None, zs, earlier)
    if not time:
        return zs, (now, before)
    ends = jax.tree.map(lambda x: x[-1], (zs, later))
    if marks.valid is not None:
        last = time - 1 - jnp.argmax(marks.valid[::-1], axis=0)

        def take(x: Array) -> Array:
            return jnp.take_along_axis(x, last.reshape(1, *last.shape, *(1,) * (x.ndim - 1 - last.ndim)), axis=0)[0]

        ends = where(marks.valid.any(0), jax.tree.map(take, (zs, later)), (now, before))
    return zs, ends
