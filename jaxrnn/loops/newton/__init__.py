"""`Newton`: computes all steps of a cell at once, by Newton's method. See README.md in the parent folder."""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from jaxrnn import _check as check
from jaxrnn._cache import is_hashable
from jaxrnn._call import Call, Given, checked, given, prepared, run_explained
from jaxrnn._kinds import with_dtypes_of
from jaxrnn.layer import Cell, Layer, Loop, Params, State, Steps
from jaxrnn.loops._chunks import run_in_checkpoints, run_in_chunks
from jaxrnn.loops._unused import IgnoringUnused
from jaxrnn.loops.newton._jacobian import DiagonalJacobian, FullJacobian, Jacobian
from jaxrnn.loops.newton._solver import run_components

__all__ = ["DiagonalJacobian", "FullJacobian", "Iterations", "Newton"]

FULL = FullJacobian()


class Iterations(NamedTuple):
    """The number of iterations that a cell took.

    Attributes:
      cell: The cell.
      iterations: Integers [time, *batch]: for each step, the number of iterations for its sequence, or with `chunk`,
        for its chunk of the sequence.
    """

    cell: Cell
    iterations: Array


@dataclass(frozen=True)
class Newton(Loop):
    r"""Computes all steps of a cell at once, by Newton's method.

    The states :math:`s_1, \ldots, s_T` of a step :math:`f` are the solution of the equations
    :math:`s_t = f(s_{t-1}, x_t)`. Each iteration replaces the step by its tangent at the last guess :math:`\tilde s`,

    .. math:: s_t = f(\tilde s_{t-1}, x_t) + J_t (s_{t-1} - \tilde s_{t-1}),

    which is a linear recurrence that `jax.lax.associative_scan` solves in logarithmic depth. A few iterations are
    enough if the step forgets small changes of the state, as most steps do. The iterations end when
    :math:`s_t = f(s_{t-1}, x_t)` holds at every step, up to rounding. After :math:`i` iterations, at least the first
    :math:`i` states are right, so a cell with a chaotic step takes more iterations, up to :math:`T`, but the result is
    the same. Each sequence of a batch has its own number of iterations, and NaN does not spread to other sequences.

    The structure of the Jacobians :math:`J_t` is found from the traced step; see `FullJacobian`. Leaves of the state
    that do not depend on each other are solved one after the other. The gradient is another linear recurrence with the
    same Jacobians, from the last step to the first. It is exact, and so are forward-mode and second derivatives. Steps
    of low precision are computed in `float32`, so their results have smaller rounding errors than those of other loops.

    `Newton` does much more work than a loop over the steps. This pays off only on devices with much parallelism, and
    for cells whose Jacobians are diagonal or have small blocks, such as `ParaGRU` and `ParaLSTM`.

    Example:
      >>> cell = jaxrnn.ParaGRU(4)
      >>> params, xs = cell.init(jax.random.key(0), 3), jnp.ones((10, 2, 3))
      >>> loop = jaxrnn.loops.Newton(chunk=5)
      >>> jaxrnn.unroll(cell, params, xs, loop=loop)[1].shape
      (10, 2, 4)
      >>> bool((loop.iterations(cell, params, xs)[0].iterations <= 5).all())
      True

    Args:
      jacobian: The derivatives to use: `FullJacobian()` or `DiagonalJacobian()`. It changes the number of iterations,
        and the work and the memory of each, but not the result.
      chunk: Number of steps that are computed at once, one chunk after the other. It bounds the memory and the number
        of iterations. None computes all steps at once.
      checkpoint_every: None, or the number of steps between the states that are kept for the backward pass, which
        recomputes the steps in between. It need not divide the length.
      tolerance: Largest difference :math:`s_t - f(s_{t-1}, x_t)` of an element at the end, relative to the largest
        element that it mixes with. None is eight times the machine epsilon of the state's dtype.

    References:
      Y. Lim, Q. Zhu, J. Selfridge, M. Kasim, "Parallelizing non-linear sequential models over the sequence length",
      2024 (DEER); X. Gonzalez, A. Warrington, J. Smith, S. Linderman, "Towards scalable and stable parallelization of
      nonlinear RNNs", 2024 (quasi-DEER and ELK); F. Danieli, P. Rodriguez, M. Sarabia, X. Suau, L. Zappella, "ParaRNN:
      unlocking parallel training of nonlinear RNNs for large language models", 2025.
    """

    _: KW_ONLY
    jacobian: Jacobian = FULL
    chunk: int | None = None
    checkpoint_every: int | None = None
    tolerance: float | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.jacobian, Jacobian):
            raise TypeError(
                "Newton's jacobian must be jaxrnn.loops.FullJacobian() or jaxrnn.loops.DiagonalJacobian(), "
                f"but it is {self.jacobian!r}"
            )
        check.positive_or_none(self, "chunk", "checkpoint_every")
        if self.tolerance is not None:
            check.above(self, "tolerance", 0)

    def __call__(self, cell: Cell, params: Params, steps: Steps, state: State) -> tuple[State, Any]:
        state, (ys, _) = self._run(cell, params, steps, state)
        return state, ys

    def iterations(
        self,
        layer: Layer,
        params: Params,
        xs: Any,
        state: State | None = None,
        *,
        lengths: Array | None = None,
        resets: Array | None = None,
        reverse: bool = False,
        key: Array | None = None,
    ) -> tuple[Iterations, ...]:
        """Runs a layer, and returns the number of iterations that each of its cells took.

        Args:
          layer: A cell or any other layer.
          params: Its parameters.
          xs: Inputs [time, *batch, features] or symbols [time, *batch]. These and all other arguments are as for
            `unroll`.
          state: The state before the first step.
          lengths: Integers [*batch].
          resets: Booleans [time, *batch].
          reverse: Whether to read the last step first.
          key: A random key, or None for evaluation.

        Returns:
          The `Iterations` of each cell with a state, in the order in which the layer runs them.
        """
        how: Any = {"lengths": lengths, "resets": resets, "reverse": reverse, "key": key}
        arguments = given(layer, params, xs, state, **how)
        return (_iterations_compiled if is_hashable(layer) else _iterations)(self, layer, reverse, arguments)

    def _run(self, cell: Cell, params: Params, steps: Steps, state: State) -> tuple[State, tuple[Any, Array]]:
        """Returns the last state, the outputs, and for each step the iterations of its chunk [time, *batch]."""
        if not isinstance(steps.length, int):
            raise TypeError(
                "Newton needs a length that is known, but under jax.export it is symbolic: "
                "call unroll with loop=jaxrnn.loops.Deferred()"
            )

        def run(params: Params, state: State, steps: Steps) -> tuple[State, tuple[Any, Array]]:
            in_loop = IgnoringUnused.of(cell)
            zs = steps.project(in_loop, params)
            if not steps.length or not jax.tree.leaves(state):
                states = jax.tree.map(lambda s: jnp.zeros((0, *s.shape), s.dtype), state)
                return state, (in_loop.readout(params, states, zs), jnp.zeros(steps.length, jnp.int32))
            turn = _flip if steps.reverse else lambda tree: tree
            zs, valid, restarts = turn((zs, steps.valid, steps.restarts))
            states, count = run_components(cell, params, state, zs, valid, restarts, self.jacobian, self.tolerance)
            states = with_dtypes_of(state, states)
            last = jax.tree.map(lambda after: after[-1], states)
            counts = jnp.broadcast_to(count, (steps.length, *count.shape))
            return last, (in_loop.readout(params, turn(states), turn(zs)), counts)

        def run_chunks(params: Params, state: State, steps: Steps) -> tuple[State, tuple[Any, Array]]:
            return run_in_chunks(run, self.chunk, params, state, steps)

        return run_in_checkpoints(run_chunks, self.checkpoint_every, params, state, steps)


@dataclass(frozen=True)
class _Counting(Loop):
    """Runs cells with `newton`, and records the number of iterations of each."""

    newton: Newton
    found: list[Iterations]

    def __call__(self, cell: Cell, params: Params, steps: Steps, state: State) -> tuple[State, Any]:
        after, (ys, count) = self.newton._run(cell, params, steps, state)
        if jax.tree.leaves(state):
            self.found.append(Iterations(cell, count))
        return after, ys


def _iterations(newton: Newton, layer: Layer, reverse: bool, given: Given) -> tuple[Iterations, ...]:
    inputs = checked(layer, given)

    def run(call: Call) -> tuple[Iterations, ...]:
        counting = _Counting(newton, [])
        call.run(layer, counting, reverse, inputs.batch_shape)
        return tuple(counting.found)

    return run_explained(layer, run, prepared(layer, given.params, given.state, inputs))


_iterations_compiled = jax.jit(_iterations, static_argnames=("newton", "layer", "reverse"))


def _flip(tree: Any) -> Any:
    return jax.tree.map(lambda x: jnp.flip(x, 0), tree)
