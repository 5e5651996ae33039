"""`Scan`: the reference loop."""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass
from typing import Any

import jax
from jax import Array

from jaxrnn import _check as check
from jaxrnn.layer import Cell, Loop, Params, State, Steps
from jaxrnn.loops._any_length import scan_any_length
from jaxrnn.loops._chunks import run_in_chunks
from jaxrnn.loops._step import keep_if_padded, restart


@dataclass(frozen=True)
class Scan(Loop):
    """Runs `jax.lax.scan` over the steps, after projecting all inputs at once.

    All other loops must equal this one. It is the only loop with a forward-mode derivative.

    Example:
      >>> cell = jaxrnn.GRU(4)
      >>> params, xs = cell.init(jax.random.key(0), 3), jnp.ones((10, 2, 3))
      >>> state, ys = jaxrnn.unroll(cell, params, xs, loop=jaxrnn.loops.Scan(checkpoint_every=5))
      >>> ys.shape
      (10, 2, 4)

    Args:
      unroll: Number of steps in one iteration of the compiled loop.
      checkpoint_every: None, or the number of steps between the states that are kept for the backward pass, which
        recomputes the steps in between. It need not divide the length.
    """

    _: KW_ONLY
    unroll: int = 1
    checkpoint_every: int | None = None

    def __post_init__(self) -> None:
        check.positive(self, "unroll")
        check.positive_or_none(self, "checkpoint_every")

    def __call__(self, cell: Cell, params: Params, steps: Steps, state: State) -> tuple[State, Any]:
        def run(params: Params, state: State, steps: Steps) -> tuple[State, Any]:
            initial = cell.initial_state(params)

            def body(state: State, now: tuple[Any, Array | None, Array | None]) -> tuple[State, Any]:
                z, valid, reset = now
                after = cell.step(params, restart(state, reset, initial), z)
                state = keep_if_padded(state, after, valid)
                return state, cell.readout(params, state, z)

            zs = steps.project(cell, params)
            xs = (zs, steps.valid, steps.resets)  # without leaves if the cell ignores its input
            return scan_any_length(body, state, xs, steps.length, steps.reverse, self.unroll)

        run = jax.checkpoint(run) if self.checkpoint_every else run
        return run_in_chunks(run, self.checkpoint_every, params, state, steps)
