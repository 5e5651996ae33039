"""`Native`: the whole loop as machine code, compiled from the traced step."""

from __future__ import annotations

import importlib.util
import math
from dataclasses import KW_ONLY, dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from jaxrnn import _check as check
from jaxrnn._tracing import TracedStep, widen
from jaxrnn.layer import Cell, Loop, Params, State, Steps, leading_shape
from jaxrnn.loops._chunks import run_in_chunks
from jaxrnn.loops._deferred_gradient import DeferredGradient, OfReadout, run_with
from jaxrnn.loops._reverse_only import reverse_only
from jaxrnn.loops._stacking import cast_like
from jaxrnn.loops.deferred import ProjectingCell


@dataclass(frozen=True)
class Native(Loop):
    """Runs all steps as machine code on a CPU. It needs `pip install jaxrnn[native]`.

    The step of one row is traced, and LLVM compiles it into a loop over time: products with packed matrices, and a
    single pass over everything elementwise between them. The batch is divided among XLA's threads. The gradient is that
    of `Deferred`, with its backward loop compiled in the same way.

    It runs cells whose step consists of products, elementwise operations, sums, slices and broadcasts, in `float32` or
    lower precision, and refuses all others by the name of the operation. Like `Deferred`, it has no forward-mode
    derivative. It cannot be exported.

    Example:
      >>> cell = jaxrnn.LSTM(4)
      >>> params, xs = cell.init(jax.random.key(0), 3), jnp.ones((10, 2, 3))
      >>> state, ys = jaxrnn.unroll(cell, params, xs, loop=jaxrnn.loops.Native())
      >>> ys.shape
      (10, 2, 4)

    Args:
      checkpoint_every: None, or the number of steps between the states that are kept for the backward pass, which
        recomputes the steps in between. It need not divide the length.
    """

    _: KW_ONLY
    checkpoint_every: int | None = None

    def __post_init__(self) -> None:
        check.positive_or_none(self, "checkpoint_every")

    def __call__(self, cell: Cell, params: Params, steps: Steps, state: State) -> tuple[State, Any]:
        check_available()
        from jaxrnn.loops.native._nodes import UnsupportedError
        from jaxrnn.loops.native._weight_gradient import weight_gradient

        def run(params: Params, state: State, steps: Steps) -> tuple[State, Any]:
            given = state
            batch_shape = leading_shape(cell, steps.xs)[1:]
            axes = len(batch_shape)
            zs = jax.eval_shape(lambda params, steps: steps.project(cell, params), params, steps)
            params, state = widen((params, state))  # low precision is for memory, not for sums
            of_row = _without(axes, state)
            readout = OfReadout(cell.readout, params, of_row, _without(1 + axes, zs))
            if readout.reads_input or not _projects_in_loop(cell, params, steps, axes):
                zs = inputs = widen(steps.project(ProjectingCell(cell), params))
                run_step = cell.step
            else:
                zs, inputs = jax.tree.map(lambda z: jnp.zeros(z.shape, z.dtype), zs), widen(steps.xs)  # zs: unread
                run_step = partial(_project_and_step, cell)
            step = TracedStep(run_step, params, of_row, _without(1 + axes, inputs))
            run_rows = partial(_run_rows, batch_shape=batch_shape, time=steps.length)
            loop = DeferredGradient(
                step,
                readout.leaves_read,
                steps.reverse,
                run_rows,
                transpose=False,
                batch_axes=axes,
                of_matrix=weight_gradient,
            )
            last, ys = run_with(loop, cell, params, steps, state, inputs, zs)
            return cast_like(last, given), ys

        params, state, xs = reverse_only((params, state, steps.xs))
        steps = steps.replace_varying((xs, *steps.varying[1:]))
        run = jax.checkpoint(run) if self.checkpoint_every else run
        try:
            return run_in_chunks(run, self.checkpoint_every, params, state, steps)
        except UnsupportedError as error:
            raise TypeError(
                f"Native cannot run {error} of {cell}: call unroll with loop=jaxrnn.loops.Deferred()"
            ) from None


def check_available() -> None:
    """Checks that the loop can run on this machine."""
    if jax.default_backend() != "cpu":
        raise TypeError(
            f"Native runs on a CPU, but JAX's default backend is {jax.default_backend()!r}: "
            "call unroll with loop=jaxrnn.loops.Deferred()"
        )
    if importlib.util.find_spec("llvmlite") is None:
        raise ImportError(
            "Native needs llvmlite: pip install 'jaxrnn[native]', or call unroll with loop=jaxrnn.loops.Deferred()"
        )


def _without(axes: int, tree: Any) -> Any:
    """Returns the shapes and dtypes of arrays without their first axes."""
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape[axes:], x.dtype), tree)


def _projects_in_loop(cell: Cell, params: Params, steps: Steps, batch_axes: int) -> bool:
    """Returns whether the loop projects its inputs itself, a block of steps at a time.

    The inputs of a single row are better projected before the loop, where several threads share the steps.
    """
    from jaxrnn.loops.native._scan import can_run

    if steps.keys is not None or math.prod(leading_shape(cell, steps.xs)[1:]) < 2:
        return False
    return can_run(cell.project, params, _without(1 + batch_axes, steps.xs))


def _project_and_step(cell: Cell, params: Params, state: State, x: Any) -> State:
    return cell.step(params, state, cell.project(params, x))


def _run_rows(
    body: Any, shared: Any, carry: Any, totals: Any, xs: Any, *, reverse: bool, batch_shape: tuple[int, ...], time: int
) -> Any:
    """Runs `carry, increments, y = body(shared, carry, x)`, which is given for one row, and sums the increments."""
    from jaxrnn.loops.native._scan import native_scan

    trees = [jax.tree.structure(tree) for tree in (shared, carry, xs)]
    result: list[Any] = []

    def flat(shared: Any, carry: Any, x: Any) -> Any:
        out = body(*(tree.unflatten(leaves) for tree, leaves in zip(trees, (shared, carry, x), strict=True)))
        result[:] = [jax.tree.structure(part) for part in out]
        return [jax.tree.leaves(part) for part in out]

    def as_given(flat_carry: Any, increments: Any, ys: Any) -> Any:
        return flat_carry, ys, increments

    last, ys, sums = native_scan(
        lambda *args: as_given(*flat(*args)),
        *(jax.tree.leaves(tree) for tree in (shared, carry, xs)),
        batch_shape=batch_shape,
        time=time,
        reverse=reverse,
    )
    sums = result[1].unflatten(sums)
    totals = jax.tree.map(jnp.add, totals, sums)
    return result[0].unflatten(last), totals, result[2].unflatten(ys)
