"""`AssociativeScan`: all steps of a linear cell at once."""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass
from typing import Any

import jax
import jax.numpy as jnp

from jaxrnn import _check as check
from jaxrnn._tracing import ignoring_unused
from jaxrnn.layer import Cell, LinearCell, Loop, Params, State, Steps
from jaxrnn.loops._chunks import run_in_chunks
from jaxrnn.loops._unused import IgnoringUnused
from jaxrnn.ops import align, where


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

    Args:
      chunk: Number of steps that are computed at once, one chunk after the other, which takes less memory but more
        sequential steps. None computes all steps at once.

    References:
      G. Blelloch, "Prefix sums and their applications", 1990; E. Martin, C. Cundy, "Parallelizing linear recurrent
      neural nets over sequence length", 2018.
    """

    _: KW_ONLY
    chunk: int | None = None

    def __post_init__(self) -> None:
        check.positive_or_none(self, "chunk")

    def __call__(self, cell: Cell, params: Params, steps: Steps, state: State) -> tuple[State, Any]:
        if not isinstance(cell, LinearCell):
            raise TypeError(
                f"AssociativeScan runs cells that are linear in their state, but {cell} is not: "
                "call unroll with loop=jaxrnn.loops.Deferred()"
            )

        def run(params: Params, state: State, steps: Steps) -> tuple[State, Any]:
            in_scan = IgnoringUnused.of(cell)
            zs = steps.project(in_scan, params)
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
            restarts, a, b = jax.lax.associative_scan(_compose, (restarts, a, b), reverse=steps.reverse)
            states = jax.tree.map(jnp.add, _multiply(None, a, jax.tree.map(lambda s: s[None], state)), b)
            states = states if restarts is None else where(~restarts, states, b)
            states = jax.tree.map(lambda after, s: after.astype(s.dtype), states, state)
            last = 0 if steps.reverse else -1
            ends = jax.tree.map(lambda after, s: after[last] if steps.length else s, states, state)
            return ends, in_scan.readout(params, states, zs)

        return run_in_chunks(run, self.chunk, params, state, steps)


def _compose(first: tuple[Any, State, State], second: tuple[Any, State, State]) -> tuple[Any, State, State]:
    """Composes two linear maps of the state; a map after a restart does not read the one before it, even if NaN."""
    (cut, a, b), (restarts, c, d) = first, second
    both = _multiply(None, c, a), jax.tree.map(jnp.add, _multiply(None, c, b), d)
    if restarts is None:
        return None, *both
    return cut | restarts, *where(restarts, (c, d), both)


@ignoring_unused
def _multiply(_: None, a: State, b: State) -> State:
    return jax.tree.map(jnp.multiply, a, b)
