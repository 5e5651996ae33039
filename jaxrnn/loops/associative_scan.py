"""`AssociativeScan`: all steps of a linear cell at once."""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxrnn import _check as check
from jaxrnn._kinds import with_dtypes_of
from jaxrnn._time_axis import from_last_part, state_before_part
from jaxrnn._tracing import ignoring_unused
from jaxrnn.layer import Cell, LinearCell, Loop, Params, State, Steps
from jaxrnn.loops._chunks import run_in_checkpoints, run_in_chunks
from jaxrnn.loops._unused import IgnoringUnused
from jaxrnn.ops import align, spread_like, where


@dataclass(frozen=True)
class AssociativeScan(Loop):
    r"""Computes all steps of a `LinearCell` at once, in logarithmic depth.

    The steps :math:`s \mapsto a_1 s + b_1` and :math:`s \mapsto a_2 s + b_2` compose to
    :math:`s \mapsto a_2 a_1 s + (a_2 b_1 + b_2)`, so that `jax.lax.associative_scan` finds every state. It does about
    twice the work of a loop and stores several states per step, which pays on devices with much parallelism.

    Example:
      >>> cell = jaxrnn.MinGRU(4)
      >>> params, xs = cell.init(jax.random.key(0), 3), jnp.ones((10, 2, 3))
      >>> state, ys = jaxrnn.unroll(cell, params, xs, loop=jaxrnn.loops.AssociativeScan())
      >>> ys.shape
      (10, 2, 4)

      One sequence over all devices:

      >>> loop = jaxrnn.loops.AssociativeScan(axis_name="time")
      >>> mesh, time = jax.sharding.Mesh(jax.devices(), ("time",)), jax.P("time")
      >>> run = jax.shard_map(
      ...     lambda xs: jaxrnn.unroll(cell, params, xs, loop=loop), mesh=mesh, in_specs=time, out_specs=(jax.P(), time)
      ... )
      >>> state, ys = run(jnp.ones((10 * len(jax.devices()), 2, 3)))
      >>> state.h.shape
      (2, 4)

    Args:
      chunk: Number of steps that are computed at once, one chunk after the other, which takes less memory but more
        sequential steps. None computes all steps at once.
      checkpoint_every: None, or the number of steps between the states that are kept for the backward pass, which
        recomputes the steps in between. It need not divide the length.
      axis_name: The mesh axis over which time is sharded, in a call of `unroll` inside `jax.shard_map`; None: time is
        not sharded. Each device has a contiguous part of the steps, in the order of the axis, and runs its part after
        all devices have exchanged the products :math:`a` and sums :math:`b` of theirs. `lengths` are those of the whole
        sequences. The returned state is that after the last step, and the same on all devices. It works for all
        `LinearCell` of a stack, and for each `MatrixCell` that is wrapped as `Using(cell, Chunked())`.

    References:
      G. Blelloch, "Prefix sums and their applications", 1990; E. Martin, C. Cundy, "Parallelizing linear recurrent
      neural nets over sequence length", 2018.
    """

    _: KW_ONLY
    chunk: int | None = None
    checkpoint_every: int | None = None
    axis_name: str | None = None

    def __post_init__(self) -> None:
        check.positive_or_none(self, "chunk", "checkpoint_every")
        check.name_or_none(self, "axis_name")

    def __call__(self, cell: Cell, params: Params, steps: Steps, state: State) -> tuple[State, Any]:
        if not isinstance(cell, LinearCell):
            remedy = "call unroll with loop=jaxrnn.loops.Deferred()"
            if self.axis_name is not None:
                remedy = "of other cells, only a jaxrnn.MatrixCell runs with time sharded, with jaxrnn.loops.Chunked"
            raise TypeError(f"AssociativeScan runs cells that are linear in their state, but {cell} is not: {remedy}")

        def run(params: Params, state: State, steps: Steps) -> tuple[State, Any]:
            zs, maps = _maps(cell, params, steps)
            states = _apply(maps, jax.tree.map(lambda s: s[None], state))
            ends = jax.tree.map(lambda after, s: after[steps.last] if steps.length else s, states, state)
            return ends, IgnoringUnused.of(cell).readout(params, states, zs)

        if self.axis_name is None:
            return self._run_steps(run, params, state, steps)
        if steps.length:
            maps = self._map_of_all(cell, params, steps)
            state = state_before_part(self.axis_name, steps.reverse, _apply, maps, state)
        state, ys = self._run_steps(run, params, state, steps)
        return from_last_part(self.axis_name, steps.reverse, state), ys

    def _run_steps(self, run: Any, params: Params, carry: Any, steps: Steps) -> tuple[Any, Any]:
        """Applies `run(params, carry, steps)` to all steps of this device, some at a time."""

        def run_chunks(params: Params, carry: Any, steps: Steps) -> tuple[Any, Any]:
            return run_in_chunks(run, self.chunk, params, carry, steps)

        return run_in_checkpoints(run_chunks, self.checkpoint_every, params, carry, steps)

    def _map_of_all(self, cell: LinearCell, params: Params, steps: Steps) -> Maps:
        """Returns the map of the state over all steps of this device."""

        def compose(params: Params, before: Maps, steps: Steps) -> tuple[Maps, None]:
            _, maps = _maps(cell, params, steps)
            return _compose(before, jax.tree.map(lambda x: x[steps.last], maps)), None

        maps = jax.eval_shape(lambda params, steps: _maps(cell, params, steps)[1], params, steps)
        maps = jax.tree.map(lambda x: jnp.zeros(x.shape[1:], x.dtype), maps)
        identity = spread_like(steps, maps._replace(a=jax.tree.map(jnp.ones_like, maps.a)))
        return self._run_steps(compose, params, identity, steps)[0]


class Maps(NamedTuple):
    """Linear maps of the state, s -> a s + b, or the constant b where it restarts."""

    restarts: Any  # None: nowhere
    a: State
    b: State


def _maps(cell: LinearCell, params: Params, steps: Steps) -> tuple[Any, Maps]:
    """Returns the projected inputs, and the maps of the state before the first step to the state after each step."""
    zs = steps.project(IgnoringUnused.of(cell), params)
    a, b = ignoring_unused(cell.coefficients)(params, zs)
    initial = cell.initial_state(params)
    restarts = steps.restarts
    if restarts is not None:  # a step after a restart becomes the constant a * initial + b
        started = jax.tree.map(jnp.add, _multiply(None, a, jax.tree.map(align, initial, b)), b)
        b = where(restarts, started, b)
        restarts = restarts if steps.valid is None else restarts & steps.valid
    if steps.valid is not None:  # a padded step becomes the identity
        a = where(steps.valid, a, jax.tree.map(jnp.ones_like, a))
        b = where(steps.valid, b, jax.tree.map(jnp.zeros_like, b))
    return zs, jax.lax.associative_scan(_compose, Maps(restarts, a, b), reverse=steps.reverse)


def _apply(maps: Maps, state: State) -> State:
    """Returns the state after the maps, in its dtype. The arrays of both may have the same leading axes."""
    after = jax.tree.map(jnp.add, _multiply(None, maps.a, state), maps.b)
    after = after if maps.restarts is None else where(~maps.restarts, after, maps.b)
    return with_dtypes_of(state, after)


def _compose(first: Maps, second: Maps) -> Maps:
    """Composes two linear maps of the state; a map after a restart does not read the one before it, even if NaN."""
    (cut, a, b), (restarts, c, d) = first, second
    both = _multiply(None, c, a), jax.tree.map(jnp.add, _multiply(None, c, b), d)
    if restarts is None:
        return Maps(None, *both)
    return Maps(cut | restarts, *where(restarts, (c, d), both))


@ignoring_unused
def _multiply(_: None, a: State, b: State) -> State:
    return jax.tree.map(jnp.multiply, a, b)
