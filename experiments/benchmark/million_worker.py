"""One process that the suite `million` starts to run one cell in one way, so that its peak memory can be measured.

Its argument is a JSON object, the arguments of `run`. It writes a JSON object, what `run` returns, to stdout.
"""

from __future__ import annotations

import json
import os
import resource
import sys
import time
from collections.abc import Callable
from dataclasses import MISSING, fields
from functools import partial
from pathlib import Path
from typing import Any

CALLS = 30  # of the short sequence, before and after each call of the long one


def peak_mib() -> float:
    """Returns the largest memory of this process so far, files that are mapped into memory included."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 2**20 if sys.platform == "darwin" else peak / 2**10


class InOneCall:
    """Runs `unroll` over all steps, with the states of every `chunk` steps kept for the backward pass."""

    def __init__(self, cell: Any, params: Any, series: Any, chunk: int):
        import jax
        import jax.numpy as jnp

        import jaxrnn

        loop = jaxrnn.loops.Auto(checkpoint_every=chunk)
        inputs, targets = jnp.asarray(series[:-1]), jnp.asarray(series[1:])

        def loss_fn(params: Any, inputs: Any, targets: Any) -> Any:
            return ((jaxrnn.unroll(cell, params, inputs, loop=loop)[1] - targets) ** 2).mean()

        functions = {"forward": loss_fn, "gradient": jax.value_and_grad(loss_fn)}
        self._args = params, inputs, targets
        self._compiled: Any = {mode: jax.jit(f).lower(*self._args).compile() for mode, f in functions.items()}

    def temporaries(self, mode: str) -> int:
        return self._compiled[mode].memory_analysis().temp_size_in_bytes

    def call(self, mode: str) -> Any:
        return self._compiled[mode](*self._args)


class FromAFile:
    """Reads pieces of the series from a file, forwards and then backwards, as in the README file of the loops."""

    def __init__(self, cell: Any, params: Any, series: Any, chunk: int, piece: int):
        import jax
        import jax.numpy as jnp

        import jaxrnn

        self._series, self._piece = series, piece
        self._chunks = (-1, chunk, *series.shape[1:])
        self._params, self._tree = params, jax.tree
        zeros = jax.tree.map(jnp.zeros_like, (params, cell.initial_state(params, series.shape[1:2])))
        self._first = jnp.zeros(()), *zeros

        def forward(params: Any, state: Any, xs: Any, targets: Any, loss: Any) -> Any:
            def run_chunk(carry: Any, inputs: Any) -> Any:
                (before, loss), (xs, targets) = carry, inputs
                state, ys = jaxrnn.unroll(cell, params, xs, before)
                return (state, loss + ((ys - targets) ** 2).sum()), before

            (state, loss), states = jax.lax.scan(run_chunk, (state, loss), (xs, targets))
            return state, loss, states

        def backward(params: Any, states: Any, xs: Any, targets: Any, totals: Any) -> Any:
            def run_chunk(totals: Any, inputs: Any) -> Any:
                (loss, grads, after), (state, xs, targets) = totals, inputs

                def loss_fn(params: Any, state: Any) -> Any:
                    state, ys = jaxrnn.unroll(cell, params, xs, state)
                    return ((ys - targets) ** 2).sum(), state

                (part, _), pull = jax.vjp(loss_fn, params, state)
                more, before = pull((jnp.ones_like(part), after))
                return (loss + part, jax.tree.map(jnp.add, grads, more), before), None

            return jax.lax.scan(run_chunk, totals, (states, xs, targets), reverse=True)[0]

        xs, targets = self._read(0)
        loss, _, state = self._first
        run = jax.jit(forward).lower(params, state, xs, targets, loss).compile()
        states = run(params, state, xs, targets, loss)[2]
        self._compiled: Any = {
            "forward": run,
            "gradient": jax.jit(backward).lower(params, states, xs, targets, self._first).compile(),
        }

    def _read(self, start: int) -> tuple[Any, Any]:
        part = self._series[start : start + self._piece + 1]
        return part[:-1].reshape(self._chunks), part[1:].reshape(self._chunks)

    def temporaries(self, mode: str) -> int:
        modes = ("forward",) if mode == "forward" else ("forward", "gradient")
        return max(self._compiled[mode].memory_analysis().temp_size_in_bytes for mode in modes)

    def call(self, mode: str) -> Any:
        (loss, _, state), saved = self._first, []
        starts, size = range(0, len(self._series) - 1, self._piece), self._series[1:].size
        for start in starts:
            state, loss, states = self._compiled["forward"](self._params, state, *self._read(start), loss)
            saved.append(states)
        if mode == "forward":
            return loss / size
        totals = self._first
        for start in reversed(starts):
            totals = self._compiled["gradient"](self._params, saved.pop(), *self._read(start), totals)
        loss, grads, _ = totals
        return self._tree.map(lambda total: total / size, (loss, grads))


WAYS: dict[str, Callable[..., Any]] = {"in one call": InOneCall, "from a file": FromAFile}


def run(
    cell: str, hidden: int, way: str, mode: str, path: str, short: int, chunk: int, piece: int, rounds: int
) -> dict[str, Any]:
    """Times a cell over a series, and in turn over its first steps, and measures the memory.

    Args:
      cell: Name of the cell.
      hidden: All its sizes.
      way: A name in WAYS.
      mode: "forward" or "gradient".
      path: File of the series [time + 1, batch, features]. The cell predicts the next step.
      short: Number of steps of the short sequence, which runs in one call with the default loop.
      chunk: Number of steps between two states that are kept.
      piece: Number of steps that are read from the file at once.
      rounds: Number of calls of the long sequence.

    Returns:
      The microseconds per step of each call (`long` and `short`), `temporary_mib`, `peak_mib` of the process,
      `before_mib`, the same before anything ran, the `loss`, and the `norm` of the gradient or None.
    """
    import jax
    import jax.numpy as jnp
    import numpy as np
    from support.cells import cell_class

    import jaxrnn

    kind = cell_class(cell)
    layer = kind(**{field.name: hidden for field in fields(kind) if field.default is MISSING})  # type: ignore[arg-type]
    series = np.load(path, mmap_mode="r")
    steps = len(series) - 1
    params = layer.init(jax.random.key(0), series.shape[-1])
    inputs, targets = jnp.asarray(series[:short]), jnp.asarray(series[1 : short + 1])

    def loss_fn(params: Any, inputs: Any, targets: Any) -> Any:
        return ((jaxrnn.unroll(layer, params, inputs)[1] - targets) ** 2).mean()

    function: Any = jax.jit({"forward": loss_fn, "gradient": jax.value_and_grad(loss_fn)}[mode])
    before = peak_mib()
    sizes = {"chunk": chunk} if way == "in one call" else {"chunk": chunk, "piece": piece}
    task = WAYS[way](layer, params, series, **sizes)
    samples: dict[str, list[float]] = {"long": [], "short": []}

    def time_call(name: str, call: Callable[[], Any], length: int) -> None:
        started = time.perf_counter()
        jax.block_until_ready(call())
        samples[name].append(1e6 * (time.perf_counter() - started) / length)

    short_call = partial(function, params, inputs, targets)
    jax.block_until_ready(short_call())  # compiles
    out = jax.block_until_ready(task.call(mode))  # reads the file for the first time
    for n in range(rounds + 1):
        for _ in range(CALLS):
            time_call("short", short_call, short)
        if n < rounds:
            time_call("long", partial(task.call, mode), steps)
    loss, grads = (out, None) if mode == "forward" else out
    squares = [np.square(np.asarray(leaf), dtype=np.float64).sum() for leaf in jax.tree.leaves(grads)]
    memory = {"temporary_mib": task.temporaries(mode) / 2**20, "peak_mib": peak_mib(), "before_mib": before}
    results = {"loss": float(loss), "norm": float(np.sqrt(sum(squares))) if squares else None}
    return samples | memory | results


if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parent.parent)  # so that imports are those of the scripts
    with os.fdopen(os.dup(1), "w") as answers:
        os.dup2(2, 1)  # prints must not mix with the answer
        print(json.dumps(run(**json.loads(sys.argv[1]))), file=answers, flush=True)
