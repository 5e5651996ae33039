"""`Auto`: the fastest loop that can run a cell on this machine."""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass
from typing import Any, NamedTuple

import jax
import numpy as np
from jax import Array

from jaxrnn import _check as check
from jaxrnn._cache import cached
from jaxrnn._call import checked, given, prepared, run_explained
from jaxrnn._matrix_cell import MatrixCell
from jaxrnn.layer import Cell, Layer, Loop, Params, State, Steps
from jaxrnn.loops.chunked import Chunked
from jaxrnn.loops.deferred import Deferred
from jaxrnn.loops.native import Native, refusal, unavailable

FEW_STEPS = 8  # below this number, `Chunked` is not worth its preparations


class Choice(NamedTuple):
    """The loop that runs a cell, and why.

    Attributes:
      cell: The cell.
      loop: The loop that runs it.
      why: The reason, such as "it can run all of it".
    """

    cell: Cell
    loop: Loop
    why: str

    def __str__(self) -> str:
        return f"{self.cell}: {type(self.loop).__name__}, because {self.why}"


@dataclass(frozen=True)
class Auto(Loop):
    """Runs each cell with the fastest loop that is available and can run it; the default loop.

    It uses `Chunked` for a `MatrixCell` and enough steps. For other cells it uses `Native` on a CPU if `jaxrnn[native]`
    is installed, and `Deferred` otherwise. On a CPU, `Deferred` also runs what `Native` cannot: cells with operations
    that it does not know, `float64`, sizes that are symbolic under `jax.export`, and all cells if there are several
    devices, except inside `jax.shard_map`. `choose` says which loop runs each cell, and why.

    `Native` and `Deferred` have no forward-mode derivative: `jax.jvp` raises an error that names `Scan`.

    Example:
      >>> layer = jaxrnn.Stack(jaxrnn.LSTM(4), jaxrnn.URNN(4))
      >>> params = layer.init(jax.random.key(0), 3)
      >>> choices = jaxrnn.loops.Auto().choose(layer, params, jnp.ones((10, 2, 3)))
      >>> choices[1].loop
      Deferred(unroll=1, checkpoint_every=None, block=None)

    Args:
      checkpoint_every: None, or the number of steps between the states that are kept for the backward pass, which
        recomputes the steps in between. It need not divide the length.
    """

    _: KW_ONLY
    checkpoint_every: int | None = None

    def __post_init__(self) -> None:
        check.positive_or_none(self, "checkpoint_every")

    def __call__(self, cell: Cell, params: Params, steps: Steps, state: State) -> tuple[State, Any]:
        return self._choice(cell, params, steps, state).loop(cell, params, steps, state)

    def choose(self, layer: Layer, params: Params, xs: Any, *, key: Array | None = None) -> tuple[Choice, ...]:
        """Returns which loop runs each cell of a layer, and why.

        It traces the layer, but compiles and runs nothing.

        Args:
          layer: A cell or any other layer.
          params: Its parameters.
          xs: Inputs [time, *batch, features] or symbols [time, *batch], as for `unroll`. Only their shapes and dtypes
            are used.
          key: A random key, or None for evaluation.

        Returns:
          A `Choice` for each cell, in the order in which the layer runs them.
        """
        recording = _Recording(self, [])

        def run(params: Params, xs: Any) -> Any:
            inputs = checked(layer, given(layer, params, xs, key=key))
            call = prepared(layer, params, None, inputs)
            return run_explained(layer, lambda call: call.run(layer, recording, False, inputs.batch_shape), call)

        jax.eval_shape(run, params, xs)
        return tuple(recording.choices)

    def _choice(self, cell: Cell, params: Params, steps: Steps, state: State) -> Choice:
        if isinstance(cell, MatrixCell) and isinstance(steps.length, int) and steps.length >= FEW_STEPS:
            chunked = Chunked(checkpoint_every=self.checkpoint_every)
            return Choice(cell, chunked, "its state is a matrix to which it adds outer products")
        why = _why_not_native(cell, params, steps, state)
        if why is None:
            return Choice(cell, Native(checkpoint_every=self.checkpoint_every), "it can run all of it")
        return Choice(cell, Deferred(checkpoint_every=self.checkpoint_every), why)


@dataclass(frozen=True)
class _Recording(Loop):
    """Records the choices of `auto`."""

    auto: Auto
    choices: list[Choice]

    def __call__(self, cell: Cell, params: Params, steps: Steps, state: State) -> tuple[State, Any]:
        choice = self.auto._choice(cell, params, steps, state)
        self.choices.append(choice)
        return Deferred()(cell, params, steps, state)  # only shapes are used, and tracing `Deferred` compiles nothing


def _why_not_native(cell: Cell, params: Params, steps: Steps, state: State) -> str | None:
    """Returns why `Native` does not run a cell, or None if it does."""
    if error := unavailable():
        return str(error)
    if jax.device_count() > 1 and not _inside_shard_map():
        return "Native does not divide a call among devices, except inside jax.shard_map"
    leaves, tree = jax.tree.flatten((params, steps, state))
    if not all(isinstance(size, int) for leaf in leaves for size in leaf.shape):
        return "Native needs sizes that are known, but under jax.export some are symbolic"
    operation = _refusal(cell, tree, tuple((leaf.shape, leaf.dtype) for leaf in leaves))
    return operation and f"Native cannot run {operation}"


def _inside_shard_map() -> bool:
    """Returns whether enclosing calls of `jax.shard_map` divide the arrays along all axes of the mesh."""
    mesh = jax.sharding.get_abstract_mesh()
    return bool(mesh.axis_names) and set(mesh.manual_axes) == set(mesh.axis_names)


@cached
def _refusal(cell: Cell, tree: Any, types: tuple[tuple[tuple[int, ...], np.dtype], ...]) -> str | None:
    """Calls `refusal` once for each cell and types of its arguments, because it traces the cell."""
    params, steps, state = jax.tree.unflatten(tree, [jax.ShapeDtypeStruct(*kind) for kind in types])
    return refusal(cell, params, steps, state)
