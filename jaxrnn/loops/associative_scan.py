"""`AssociativeScan`: all steps of a linear cell at once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from jaxrnn.layer import Cell, LinearCell, Params, Plan, State
from jaxrnn.loops.scan import Loop, Steps, check_counts, in_chunks, project
from jaxrnn.ops import where


@dataclass(frozen=True)
class AssociativeScan(Loop):
    r"""All steps of a `LinearCell` at once, in logarithmic depth.

    Steps :math:`s \mapsto a_1 s + b_1` and :math:`s \mapsto a_2 s + b_2` together are :math:`s \mapsto a_2 a_1 s +
    (a_2 b_1 + b_2)`, so that `jax.lax.associative_scan` finds every state. It does about twice the work of
    a loop, and keeps several states for every step: for devices that can do much at once.

    Args:
      chunk: None, or how many steps are taken at once, the chunks one after the other: less memory, more depth.

    References: G. Blelloch, "Prefix sums and their applications", 1990; E. Martin, C. Cundy, "Parallelizing linear
    recurrent neural nets over sequence length", 2018.
    """

    chunk: int | None = None

    def __post_init__(self) -> None:
        check_counts(self)

    def __call__(
        self, cell: Cell, params: Params, xs: Any, state: State, key: Array | None, plan: Plan
    ) -> tuple[State, Any]:
        if not isinstance(cell, LinearCell):
            raise TypeError(
                f"AssociativeScan runs cells that are linear in their state, but {cell} is none: "
                "call unroll with loop=jaxrnn.loops.Deferred()"
            )

        def run(params: Params, state: State, steps: Steps) -> tuple[State, Any]:
            zs = project(cell, params, steps, key)
            a, b = cell.coefficients(params, zs)
            restart = cell.initial_state(params)
            if steps.resets is not None:  # begins from the restart state: a * restart + b, whatever was before
                b = where(steps.resets, jax.tree.map(lambda a, b, s: a * s + b, a, b, restart), b)
                a = where(steps.resets, jax.tree.map(jnp.zeros_like, a), a)
            if steps.valid is not None:
                a = where(steps.valid, a, jax.tree.map(jnp.ones_like, a))
                b = where(steps.valid, b, jax.tree.map(jnp.zeros_like, b))
            a, b = jax.lax.associative_scan(_after, (a, b), reverse=plan.reverse)
            states = jax.tree.map(lambda a, b, s: (a * s + b).astype(s.dtype), a, b, state)
            last = 0 if plan.reverse else -1
            ends = jax.tree.map(lambda after, s: after[last] if steps.length else s, states, state)
            return ends, cell.readout(params, states, zs)

        return in_chunks(run, self.chunk, params, state, Steps.of(xs, key, plan), plan.reverse)


def _after(first: tuple[State, State], second: tuple[State, State]) -> tuple[State, State]:
    """Two runs of steps as one."""
    (a, b), (c, d) = first, second
    return jax.tree.map(lambda a, c: c * a, a, c), jax.tree.map(lambda b, c, d: c * b + d, b, c, d)
