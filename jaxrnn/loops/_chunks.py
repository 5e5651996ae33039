"""Runs a loop in chunks of steps, one chunk after the other."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from jaxrnn.layer import Params, State, Steps
from jaxrnn.loops._any_length import scan_any_length
from jaxrnn.loops._stacking import stacking_scan

Run = Callable[[Params, State, Steps], tuple[State, Any]]


def run_in_checkpoints(run: Run, size: int | None, params: Params, state: State, steps: Steps) -> tuple[State, Any]:
    """Applies `run_in_chunks`, and for the backward pass keeps only the state before each chunk; None keeps all."""
    return run_in_chunks(run, size, params, state, steps, recompute=size is not None)


def run_in_chunks(
    run: Run, size: int | None, params: Params, state: State, steps: Steps, *, recompute: bool = False
) -> tuple[State, Any]:
    """Applies `run(params, state, steps)` to chunks of `size` steps; None means one chunk of all steps.

    Args:
      run: What to apply.
      size: The number of steps of a chunk.
      params, state, steps: As for any loop.
      recompute: Whether the backward pass computes each chunk again from the state before it.
    """
    remember_less: Any = jax.checkpoint if recompute else lambda function: function
    if size is None or steps.length <= size:
        return remember_less(run)(params, state, steps)
    whole = steps.length // size * size
    first = jax.eval_shape(lambda varying: jax.tree.map(lambda x: x[:size], varying), steps.varying)
    head = jax.tree.map(lambda x: _without_ones(x[:whole]), steps.varying)
    head = jax.tree.map(lambda x: x.reshape(whole // size, size, *x.shape[1:]), head)
    tail = jax.tree.map(lambda x: x[whole:], steps.varying)

    def run_head(state: State) -> tuple[State, Any]:
        shapes = []

        def run_one(params: Params, state: State, chunk: Any) -> tuple[State, Any]:
            chunk = jax.tree.map(lambda x, like: x.reshape(like.shape), chunk, first)
            state, ys = run(params, state, steps.replace_varying(chunk))
            shapes.append(jax.tree.map(lambda y: (whole, *y.shape[1:]), ys))
            return state, jax.tree.map(_without_ones, ys)

        def scan(body: Any, *args: Any, **how: Any) -> Any:  # changes of shapes and dtypes are recomputed, too
            return scan_any_length(remember_less(body), *args, **how)

        how: Any = {"length": whole // size, "reverse": steps.reverse}
        state, ys = stacking_scan(run_one, params, state, head, scan=scan, **how)
        ys = jax.tree.map(lambda y: y.reshape(whole, *y.shape[2:]), ys)
        return state, jax.tree.map(lambda y, shape: y.reshape(shape), ys, shapes[-1])

    def run_tail(state: State) -> tuple[State, Any]:
        return remember_less(run)(params, state, steps.replace_varying(tail))

    if whole == steps.length:
        return run_head(state)
    if steps.reverse:
        state, last = run_tail(state)
        state, first = run_head(state)
    else:
        state, first = run_head(state)
        state, last = run_tail(state)
    return state, jax.tree.map(lambda a, b: jnp.concatenate([a, b]), first, last)


def _without_ones(x: Any) -> Any:
    """Removes all axes of size 1 but the first one.

    Where the time axis is divided, XLA chooses an unusual layout for arrays with such axes, and copies them as a whole.
    """
    return x.reshape(x.shape[0], *(size for size in x.shape[1:] if size != 1))
