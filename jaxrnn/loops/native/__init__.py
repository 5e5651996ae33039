"""`Native`: the whole loop as machine code, compiled from the traced step. README.md describes how it works."""

from __future__ import annotations

import functools
import importlib.util
import math
import re
from dataclasses import KW_ONLY, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxrnn import _check as check
from jaxrnn._tracing import TracedStep, widen
from jaxrnn.layer import Cell, Loop, Params, State, Steps, leading_shape
from jaxrnn.loops._chunks import run_in_checkpoints
from jaxrnn.loops._deferred_gradient import DeferredGradient, OfReadout, run_with
from jaxrnn.loops._reverse_only import reverse_only
from jaxrnn.loops._stacking import cast_like
from jaxrnn.loops.deferred import ProjectingCell


@dataclass(frozen=True)
class Native(Loop):
    """Runs all steps as machine code on a CPU. It needs `pip install 'jaxrnn[native]'`.

    One step is traced for a single sequence of the batch, and LLVM compiles it into a loop over time. The batch is
    divided among XLA's threads. The backward pass is that of `Deferred`, with its loop and the gradients of the weights
    compiled in the same way.

    It runs cells whose step consists of products, elementwise operations, sums, slices and broadcasts, in `float32` or
    lower precision. For any other cell, it raises an error that names the operation. Like `Deferred`, it has no
    forward-mode derivative. It cannot be exported.

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
        if error := unavailable():
            raise type(error)(f"{error}: call unroll with loop=jaxrnn.loops.Deferred()")
        from jaxrnn.loops.native._scan import UnsupportedError, native_scan
        from jaxrnn.loops.native._weight_gradient import weight_gradient

        run = partial(_run, cell, native_scan, weight_gradient)
        params, state, xs = reverse_only((params, state, steps.xs))
        steps = steps.replace_varying((xs, *steps.varying[1:]))
        try:
            return run_in_checkpoints(run, self.checkpoint_every, params, state, steps)
        except UnsupportedError as error:
            raise TypeError(
                f"Native cannot run {error} of {cell}: call unroll with loop=jaxrnn.loops.Deferred()"
            ) from None


def unavailable() -> Exception | None:
    """Returns an error that says why the loop cannot run on this machine, or None if it can."""
    platform = jax.default_backend()
    if platform != "cpu":
        return TypeError(f"Native runs on a CPU, but JAX's default backend is {platform!r}")
    if importlib.util.find_spec("llvmlite") is None:
        return ImportError("Native needs llvmlite (pip install 'jaxrnn[native]')")
    if (major := _ffi_major()) != 0:
        return ImportError(f"Native needs version 0 of XLA's FFI, but jaxlib has version {major}")
    return None


@functools.cache
def _ffi_major() -> int:
    """Returns the major version of XLA's FFI, on which the layout of a call frame depends."""
    header = Path(jax.ffi.include_dir()) / "xla" / "ffi" / "api" / "c_api.h"
    return int(re.findall(r"#define XLA_FFI_API_MAJOR (\d+)", header.read_text())[0])


def refusal(cell: Cell, params: Params, steps: Steps, state: State) -> str | None:
    """Returns what `Native` cannot run of a cell, forwards or backwards, or None if it can run all of it.

    It traces the cell and compiles nothing, so the arguments may be shapes and dtypes.
    """
    from jaxrnn.loops.native._scan import UnsupportedError, scan_of_zeros

    def run(params: Params, state: State, steps: Steps) -> Any:
        return _run(cell, scan_of_zeros, None, params, state, steps)

    def run_backwards(params: Params, state: State, steps: Steps) -> Any:
        out, pull = jax.vjp(lambda params, state: run(params, state, steps), params, state)
        return pull(jax.tree.map(_cotangent_of, out))

    try:
        jax.eval_shape(run, params, state, steps)
    except UnsupportedError as error:
        return str(error)
    try:
        jax.eval_shape(run_backwards, params, state, steps)
    except UnsupportedError as error:
        return f"{error} in the derivative"
    except Exception as error:
        if _has_derivative(cell, params, state, steps):
            raise
        return f"the derivative ({str(error).splitlines()[0]})"  # `Deferred` runs the cell forwards
    return None


def _has_derivative(cell: Cell, params: Params, state: State, steps: Steps) -> bool:
    """Returns whether JAX can differentiate a cell's step."""

    def derivative(params: Params, state: State, steps: Steps) -> Any:
        z = jax.tree.map(lambda z: jnp.zeros(z.shape[1:], z.dtype), steps.project(cell, params))
        out, pull = jax.vjp(lambda params, state: cell.step(params, state, z), params, state)
        return pull(jax.tree.map(_cotangent_of, out))

    try:
        jax.eval_shape(derivative, params, state, steps)
    except Exception:  # which the user sees if something differentiates the cell
        return False
    return True


def _cotangent_of(x: Array) -> Any:
    return x if jnp.issubdtype(x.dtype, jnp.inexact) else np.zeros(x.shape, jax.dtypes.float0)


def _run(cell: Cell, scan: Any, of_matrix: Any, params: Params, state: State, steps: Steps) -> tuple[State, Any]:
    """Runs a cell with `native_scan` and `weight_gradient`, or other functions of their signatures."""
    from jaxrnn.loops.native._scan import UnsupportedError

    given = state
    batch_shape = leading_shape(cell, steps.xs)[1:]
    axes = len(batch_shape)
    zs = jax.eval_shape(lambda params, steps: steps.project(cell, params), params, steps)
    row_state, row_z = _row_of(cell, params, steps, axes)
    for leaf, row in zip(jax.tree.leaves(state), jax.tree.leaves(row_state), strict=True):
        if leaf.shape != (*batch_shape, *row.shape):
            raise UnsupportedError(f"a state whose arrays {leaf.shape} lack the batch axes {batch_shape}")
    params, state = widen((params, state))  # low precision is for memory, not for sums
    of_row = _without(axes, state)
    readout = OfReadout(cell.readout, params, state, _without(1, zs))
    if readout.reads_input or not _projects_in_loop(cell, params, steps, axes):
        zs = widen(steps.project(ProjectingCell(cell), params))
        inputs = jax.tree.map(lambda z, row: _over_batch(z, row, batch_shape), zs, row_z)
        run_step: Any = cell.step
    else:
        zs, inputs = jax.tree.map(lambda z: jnp.zeros(z.shape, z.dtype), zs), widen(steps.xs)

        def project_and_step(params: Params, state: State, x: Any) -> State:
            return cell.step(params, state, cell.project(params, x))

        run_step = project_and_step

    step = _step_of_row(run_step, params, of_row, _without(1 + axes, inputs))
    run_rows = partial(_run_rows, scan=scan, batch_shape=batch_shape, time=steps.length)
    how: Any = {"transpose": False, "batch_axes": axes, "of_matrix": of_matrix}
    loop = DeferredGradient(step, readout.leaves_read, steps.reverse, run_rows, **how)
    last, ys = run_with(loop, cell, params, steps, state, inputs, zs)
    return cast_like(last, given), ys


def _step_of_row(step: Any, params: Params, state: State, z: Any) -> TracedStep:
    """Traces a step without batch axes. A cell that is not generic over them may fail, or return other shapes."""
    from jaxrnn.loops.native._scan import UnsupportedError

    try:
        traced = TracedStep(step, params, state, z)
    except Exception as error:
        raise UnsupportedError(f"a step without batch axes ({str(error).splitlines()[0]})") from error
    shapes = [leaf.shape for leaf in jax.tree.leaves(state)]
    if traced.out_shapes != shapes:
        raise UnsupportedError(f"a step without batch axes (its state becomes {traced.out_shapes}, not {shapes})")
    return traced


def _row_of(cell: Cell, params: Params, steps: Steps, batch_axes: int) -> tuple[State, Any]:
    """Returns the shapes of the state and of one step's projected input without batch axes."""
    from jaxrnn.loops.native._scan import UnsupportedError

    key = None if steps.keys is None else jax.ShapeDtypeStruct((), steps.keys.dtype)
    x = _without(1 + batch_axes, steps.xs)
    try:
        return jax.eval_shape(lambda p, x, key: (cell.initial_state(p), cell.project(p, x, key)), params, x, key)
    except Exception as error:  # `Deferred` raises it again if it is not for want of batch axes
        raise UnsupportedError(f"a projection without batch axes ({str(error).splitlines()[0]})") from error


def _over_batch(z: Array, row: Any, batch_shape: tuple[int, ...]) -> Array:
    """Returns a projected input [time, *batch, ...], even if it is the same for the whole batch, such as a mask.

    Its shape alone does not say so, because the batch may be as large as a feature axis: `row` is that of one sequence.
    """
    from jaxrnn.loops.native._scan import UnsupportedError

    if z.shape[1:] == (*batch_shape, *row.shape):
        return z
    if z.shape[1:] != row.shape:
        raise UnsupportedError(f"a projection that returns {z.shape[1:]} for a batch, and {row.shape} for a sequence")
    time = z.shape[0]
    return jnp.broadcast_to(z.reshape(time, *(1,) * len(batch_shape), *row.shape), (time, *batch_shape, *row.shape))


def _without(axes: int, tree: Any) -> Any:
    """Returns the types of arrays without their first axes."""
    from jaxrnn.loops.native._scan import like

    return jax.tree.map(lambda x: like(x, x.shape[axes:], x.dtype), tree)


def _projects_in_loop(cell: Cell, params: Params, steps: Steps, batch_axes: int) -> bool:
    """Returns whether the loop projects its inputs itself, a block of steps at a time.

    The inputs of a single row are projected before the loop, because there several threads can share the steps.
    """
    from jaxrnn.loops.native._scan import can_run

    if steps.keys is not None or math.prod(leading_shape(cell, steps.xs)[1:]) < 2:
        return False
    return can_run(cell.project, params, _without(1 + batch_axes, steps.xs))


def _run_rows(
    body: Any,
    shared: Any,
    carry: Any,
    totals: Any,
    xs: Any,
    *,
    reverse: bool,
    scan: Any,
    batch_shape: tuple[int, ...],
    time: int,
) -> Any:
    """Runs `carry, increments, y = body(shared, carry, x)`, given for one row, over all rows and steps.

    It calls `scan`, such as `native_scan`, with flat lists of arrays. Returns the last carry, `totals` plus the sums of
    the increments, and the ys.
    """
    trees = [jax.tree.structure(tree) for tree in (shared, carry, xs)]
    result: list[Any] = []

    def flat(shared: Any, carry: Any, x: Any) -> Any:
        given = [tree.unflatten(leaves) for tree, leaves in zip(trees, (shared, carry, x), strict=True)]
        carry, increments, ys = body(*given)
        results = (carry, ys, increments)
        result[:] = [jax.tree.structure(part) for part in results]
        return tuple(jax.tree.leaves(part) for part in results)

    last, ys, sums = scan(
        flat,
        *(jax.tree.leaves(tree) for tree in (shared, carry, xs)),
        batch_shape=batch_shape,
        time=time,
        reverse=reverse,
    )
    carry_tree, ys_tree, sums_tree = result
    totals = jax.tree.map(jnp.add, totals, sums_tree.unflatten(sums))
    return carry_tree.unflatten(last), totals, ys_tree.unflatten(ys)
