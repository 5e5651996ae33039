"""`Scan`: the reference loop."""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass
from typing import Any

from jax import Array

from jaxrnn import _check as check
from jaxrnn.layer import Cell, Loop, Params, State, Steps
from jaxrnn.loops._chunks import run_in_checkpoints
from jaxrnn.loops._stacking import stacking_scan
from jaxrnn.loops._step import keep_if_padded, restart
from jaxrnn.loops._unused import IgnoringUnused


@dataclass(frozen=True)
class Scan(Loop):
    """Runs `jax.lax.scan` over the steps, after projecting all inputs at once.

    All other loops must equal this one. Its derivatives are those of JAX, in forward mode, too.

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
            in_loop = IgnoringUnused.of(cell)

            def body(constants: Any, state: State, now: tuple[Any, Array | None, Array | None]) -> tuple[State, Any]:
                params, initial = constants
                z, valid, restarts = now
                after = in_loop.step(params, restart(state, restarts, initial), z)
                state = keep_if_padded(state, after, valid)
                return state, in_loop.readout(params, state, z)

            zs = steps.project(in_loop, params)
            constants, xs = (params, cell.initial_state(params)), (zs, steps.valid, steps.restarts)
            how: Any = {"length": steps.length, "reverse": steps.reverse, "unroll": self.unroll}
            return stacking_scan(body, constants, state, xs, **how)  # `xs` has no leaves if the cell ignores its input

        return run_in_checkpoints(run, self.checkpoint_every, params, state, steps)
