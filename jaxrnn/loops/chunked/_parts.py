"""Finds the state before the steps of each device, for `Chunked` with time sharded over a mesh axis."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from jaxrnn._matrix_cell import MatrixCell, MatrixMemory
from jaxrnn._time_axis import left_before_part, state_before_part
from jaxrnn._tracing import ignoring_unused, widen
from jaxrnn.layer import Params, State, Steps
from jaxrnn.loops._stacking import cast_like
from jaxrnn.loops.chunked._run import (
    Inputs,
    StabilizerMaps,
    aligned,
    join_state,
    prepare,
    run_memory,
    split_state,
)
from jaxrnn.ops import spread_like, where


def start_of_part(
    cell: MatrixCell, chunk: int, axis_name: str, run_steps: Any, params: Params, state: State, steps: Steps
) -> State:
    """Returns the state before the first step that this device reads, given that before the whole sequence.

    The parts of the state are found one after the other. What a step passes on to the next one depends only on its
    input. The stabilizers follow from all inputs. Given the stabilizers, the matrix after the steps is a linear
    function of the matrix before them.

    Args:
      cell: The cell.
      chunk: Number of steps of a chunk.
      axis_name: The mesh axis.
      run_steps: A function `run_steps(run, params, carry, steps)` that applies `run(params, carry, steps)`, which
        returns the next carry and None, to consecutive parts of the steps, one part after the other.
      params: The parameters of the cell.
      state: The state before the whole sequence.
      steps: The steps of this device.
    """
    before_part: Any = partial(state_before_part, axis_name, steps.reverse)
    memory, shifted = split_state(cell, state)
    memory = widen(memory)
    has_steps = jnp.ones((), bool) if steps.valid is None else steps.valid.any(0)

    def run(advance: Callable[[Inputs, Any], Any], carry: Any) -> tuple[Any, Any]:
        """Advances the carry over all steps; returns what the last step leaves for the next one, and the carry."""

        def run_some(params: Params, carries: Any, steps: Steps) -> tuple[Any, None]:
            shifted, carry = carries
            inputs = Inputs.of(cell, params, shifted, steps)
            return cast_like((inputs.shifted, advance(inputs, carry)), carries), None

        return run_steps(run_some, params, (shifted, carry), steps)[0]

    if shifted:
        (_, passed_on), _ = run(lambda _, carry: carry, ())
        shifted = shifted[0], left_before_part(axis_name, steps.reverse, has_steps, passed_on, shifted[1])
    if memory.m is not None:
        _, maps = run(partial(_after_steps, memory), StabilizerMaps.identity(memory.m))
        memory = memory._replace(m=before_part(StabilizerMaps.apply, maps, memory.m))

    has_delta_rule = prepare(cell, params, state, steps)[0].read is not None
    probe = _probe(cell, memory, has_delta_rule=has_delta_rule)
    last, probe = run(partial(_run_probe, cell, chunk), probe)
    summary = _restarts(steps), has_steps, probe, last[:1]
    memory, now = before_part(partial(_after_part, cell), summary, (memory, shifted[:1]))
    return cast_like(join_state(cell, memory, (*now, *shifted[1:])), state)


def _after_steps(memory: MatrixMemory, inputs: Inputs, maps: StabilizerMaps) -> StabilizerMaps:
    """Returns the maps of the stabilizer, followed by those of all steps."""
    _, update, marks = aligned(memory, inputs)
    return maps.then(jax.tree.map(lambda x: x[-1], StabilizerMaps.of(update, marks)))


def _probe(cell: MatrixCell, memory: MatrixMemory, has_delta_rule: bool) -> MatrixMemory:
    """Returns a memory of zeros with more columns, from which steps find their map of the matrix.

    Steps map the matrix S to P S + Q, where P is a matrix [keys, keys] with a delta rule, and diagonal otherwise. They
    turn zeros into Q. They write nothing into the additional columns, and turn those of the identity into P, or a
    column of ones into the diagonal of P.
    """
    s = _keys_first(cell, jnp.zeros_like(memory.s))
    keys = s.shape[-2]
    columns = jnp.eye(keys, dtype=s.dtype) if has_delta_rule else jnp.ones((keys, 1), s.dtype)
    columns = spread_like(s, jnp.broadcast_to(columns, (*s.shape[:-1], columns.shape[-1])))
    n = None if memory.n is None else jnp.zeros_like(memory.n)
    return MatrixMemory(_keys_first(cell, jnp.concatenate([s, columns], -1)), n, memory.m)


def _run_probe(cell: MatrixCell, chunk: int, inputs: Inputs, probe: MatrixMemory) -> MatrixMemory:
    """Returns the memory after all steps, which write zeros into the columns of the probe."""
    v = inputs.update.v
    columns = _keys_first(cell, probe.s).shape[-1] - v.shape[-1]
    v = jnp.pad(v, [(0, 0)] * (v.ndim - 1) + [(0, columns)])
    return run_memory(cell, chunk, probe, inputs._replace(update=inputs.update._replace(v=v)))[0]


def _after_part(cell: MatrixCell, summary: Any, start: Any) -> Any:
    """Returns the memory after the steps of a device, and the shifted input of the last step."""
    restarts, has_steps, probe, last = summary
    memory, now = start
    s = _keys_first(cell, memory.s)
    from_zero, columns = jnp.split(_keys_first(cell, probe.s), [s.shape[-1]], -1)
    s = where(~restarts, _mapped(None, columns, s) + from_zero, from_zero)
    n = memory.n
    if n is not None:
        n = where(~restarts, _mapped(None, columns, n[..., None])[..., 0] + probe.n, probe.n)
    return cast_like((MatrixMemory(_keys_first(cell, s), n, memory.m), where(has_steps, last, now)), start)


@ignoring_unused
def _mapped(_: None, columns: Array, s: Array) -> Array:
    """Multiplies by the matrix with these columns, or if there is only one column, by the diagonal matrix of it."""
    return columns * s if columns.shape[-1] == 1 else jnp.matmul(columns, s, precision="highest")


def _keys_first(cell: MatrixCell, s: Array) -> Array:
    return s.mT if cell.values_first else s


def _restarts(steps: Steps) -> Array:
    """Returns whether the state restarts at one of the steps."""
    if steps.restarts is None:
        return jnp.zeros((), bool)
    return (steps.restarts if steps.valid is None else steps.restarts & steps.valid).any(0)
