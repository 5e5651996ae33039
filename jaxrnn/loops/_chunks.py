"""Runs a loop in chunks of steps, one chunk after the other."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from jaxrnn.layer import Params, State, Steps
from jaxrnn.loops._stacking import stacking_scan


def run_in_chunks(run: Any, size: int | None, params: Params, state: State, steps: Steps) -> tuple[State, Any]:
    """Applies `run(params, state, steps)` to chunks of `size` steps; None means one chunk of all steps."""
    if size is None or steps.length <= size:
        return run(params, state, steps)
    whole = steps.length // size * size
    head = jax.tree.map(lambda x: x[:whole].reshape(whole // size, size, *x.shape[1:]), steps.varying)
    tail = jax.tree.map(lambda x: x[whole:], steps.varying)

    def run_head(state: State) -> tuple[State, Any]:
        def run_one(params: Params, state: State, chunk: Any) -> tuple[State, Any]:
            return run(params, state, steps.replace_varying(chunk))

        how: Any = {"length": whole // size, "reverse": steps.reverse}
        state, ys = stacking_scan(run_one, params, state, head, **how)
        return state, jax.tree.map(lambda y: y.reshape(whole, *y.shape[2:]), ys)

    def run_tail(state: State) -> tuple[State, Any]:
        return run(params, state, steps.replace_varying(tail))

    if whole == steps.length:
        return run_head(state)
    if steps.reverse:
        state, last = run_tail(state)
        state, first = run_head(state)
    else:
        state, first = run_head(state)
        state, last = run_tail(state)
    return state, jax.tree.map(lambda a, b: jnp.concatenate([a, b]), first, last)
