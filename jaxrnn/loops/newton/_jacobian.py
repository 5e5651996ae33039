"""The derivatives of a step that Newton's method uses: all, or those of each unit by its own state."""

from __future__ import annotations

import abc
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from jaxrnn._check import NamedArguments
from jaxrnn._tracing import Equation, Equations
from jaxrnn.loops.newton._blocks import Block, elementwise_blocks, full_block
from jaxrnn.loops.newton._dependencies import NOTHING, Component, Reads, reads_of, reads_of_leaf
from jaxrnn.loops.newton._recurrence import multiply
from jaxrnn.ops import spread_like

Shapes = list[tuple[int, ...]]


class UsedDerivatives(NamedTuple):
    """The derivatives of a component of the state that Newton's method uses.

    Attributes:
      step: `step(params, leaves, z)` with these derivatives.
      blocks: The blocks of the Jacobian.
      bound: A function that scales matrices [..., R, R] so that their products do not overflow, or the identity.
    """

    step: Any
    blocks: list[Block]
    bound: Callable[[Array], Array]


class Jacobian(NamedArguments, abc.ABC):
    """The derivatives of a step that Newton's method uses."""

    @abc.abstractmethod
    def used(self, component: Component, step: Any, traced: Equations, batch_axes: int) -> UsedDerivatives:
        """Returns the derivatives that are used.

        Args:
          component: A component of the state.
          step: A step on lists of leaves [time, *batch, ...].
          traced: The step of a single sequence.
          batch_axes: The number of axes of time and batch.
        """


@dataclass(frozen=True)
class FullJacobian(Jacobian):
    """All derivatives of the step, except for those that the traced step shows to be zero.

    If no unit of a cell reads another unit's state, as in `ParaGRU` or `ParaLSTM`, the Jacobian of each unit is a
    number, or a small matrix across the leaves of the state. Computing it takes one derivative of the step for each
    leaf. In other cells, such as `LSTM`, the Jacobian is a matrix over the whole state. With R numbers in the state, it
    takes R derivatives of the step, memory for several times R² numbers per step, and products of R x R matrices.

    Example:
      >>> jaxrnn.loops.Newton(jacobian=jaxrnn.loops.FullJacobian()) == jaxrnn.loops.Newton()
      True
    """

    def used(self, component: Component, step: Any, traced: Equations, batch_axes: int) -> UsedDerivatives:
        return UsedDerivatives(step, [full_block(component)], lambda a: a)


@dataclass(frozen=True)
class DiagonalJacobian(Jacobian):
    r"""Only the derivatives of each unit by its own state, for cells whose units mix.

    For an `LSTM`, these are a 2 x 2 matrix for each unit, across `h` and `c`. A product with a matrix is differentiated
    like a product with its diagonal, and everything else that mixes units like a constant. The memory grows with the
    size of the state instead of its square, and an iteration costs a few evaluations of the step. `Newton` takes more
    iterations than with the full Jacobian. For components of a state whose units do not mix, both are the same.

    The matrices :math:`A` are divided by :math:`\sqrt{\|A^\top A\|_\infty}`, an upper bound of their spectral norm,
    where it is above 1. A correction therefore never grows from step to step, and the iterations converge even where
    the products of full Jacobians overflow.

    Example:
      >>> cell = jaxrnn.GRU(4)
      >>> params, xs = cell.init(jax.random.key(0), 3), jnp.ones((10, 2, 3))
      >>> loop = jaxrnn.loops.Newton(jacobian=jaxrnn.loops.DiagonalJacobian())
      >>> jaxrnn.unroll(cell, params, xs, loop=loop)[1].shape
      (10, 2, 4)

    References:
      X. Gonzalez, A. Warrington, J. Smith, S. Linderman, "Towards scalable and stable parallelization of nonlinear
      RNNs", 2024.

    Deviations:
      The paper uses the exact diagonal of the Jacobian, and bounds the corrections by a trust region. Both methods
      find the same states.
    """

    def used(self, component: Component, step: Any, traced: Equations, batch_axes: int) -> UsedDerivatives:
        block = full_block(component)
        if block.size == len(block.leaves):
            return UsedDerivatives(step, [block], lambda a: a)
        unmixed = _unmixed(traced)
        for _ in range(batch_axes):
            unmixed = _mapped(unmixed, [traced.avals[p].ndim for p in traced.ins[2]])
        return UsedDerivatives(unmixed, elementwise_blocks(component), _contract)


def _mapped(step: Any, ndims: list[int]) -> Any:
    """Maps a step over one more axis, which leaves of `z` that are the same for the whole batch lack.

    Args:
      step: `step(params, leaves, z)`.
      ndims: The number of axes of each leaf of `z` for a single sequence.
    """

    def run(params: Any, leaves: list[Array], z: Any) -> list[Array]:
        zs, structure = jax.tree.flatten(z)
        axes = [0 if x.ndim > ndim else None for x, ndim in zip(zs, ndims, strict=True)]
        return jax.vmap(step, in_axes=(None, 0, structure.unflatten(axes)))(params, leaves, z)

    return run


def _contract(a: Array) -> Array:
    """Divides matrices [..., R, R] by a bound of their spectral norm where it is above 1."""
    squared = multiply(a.swapaxes(-1, -2), a)
    norm = jnp.sqrt(jnp.maximum(jnp.abs(squared).sum(-1, keepdims=True).max(-2, keepdims=True), 1))
    return a / norm


def jacobian_of(function: Callable[[list[Array]], list[Array]], at: list[Array], block: Block, bound: Any) -> Array:
    """Returns the Jacobians [time, *batch, *shared, R, R] of a function of the leaves of a block.

    Elements along the shared axes do not mix, so one derivative in forward mode gives a column of all matrices.
    """
    _, push = jax.linearize(function, at)
    packed = jax.eval_shape(block.pack, at)

    def column(direction: Array) -> Array:
        tangents = block.unpack(jnp.broadcast_to(direction, packed.shape))
        return block.pack(push([spread_like(x, t) for x, t in zip(at, tangents, strict=True)]))

    directions = jnp.eye(block.size, dtype=packed.dtype).reshape(block.size, *(1,) * (len(packed.shape) - 1), -1)
    a = jnp.moveaxis(jax.vmap(column)(directions), 0, -1)
    return bound(jnp.where(jnp.isfinite(a), a, 0))


def apply_jacobian(a: Array, x: Array) -> Array:
    return multiply(a, x[..., None])[..., 0]


def _unmixed(traced: Equations) -> Any:
    """Returns the step of a single sequence, without the derivatives of operations that mix elements of the state."""
    places = _tiled_reads(traced)
    of_leaves = [traced.avals[p].shape for p in traced.ins[1]]

    def is_aligned(place: int) -> bool:
        """Returns whether each element is computed from one element of each leaf."""
        return all(len(axes) == len(of_leaves[leaf]) for leaf, axes in places[place].slopes.items())

    def step(params: Any, leaves: list[Array], z: Any) -> list[Array]:
        values: dict[int, Any] = dict(traced.constants)
        for ins, arg in zip(traced.ins, (params, leaves, z), strict=True):
            values.update(zip(ins, jax.tree.leaves(arg), strict=True))
        for e in traced.equations:
            operands = [values[p] for p in e.ins]
            outs = e.run(*operands)
            if (operand := _operand_of_diagonal(e, traced, places)) is not None:
                a, w = operands[operand], operands[1 - operand]
                change = a - jax.lax.stop_gradient(a)
                operands = [change, _tiled_diagonal(w)] if operand == 0 else [_tiled_diagonal(w.T).T, change]
                outs = [jax.lax.stop_gradient(outs[0]) + e.run(*operands)[0]]
            values.update(
                (place, out if is_aligned(place) else jax.lax.stop_gradient(out))
                for place, out in zip(e.outs, outs, strict=True)
            )
        return [values[p] for p in traced.outs]

    return step


def _tiled_diagonal(w: Array) -> Array:
    """Returns the diagonals of m square matrices, which lie beside each other in a matrix [n, m * n]."""
    n, columns = w.shape
    return jnp.where(jnp.arange(n)[:, None] == jnp.arange(columns)[None] % n, w, 0)


def _operand_of_diagonal(e: Equation, traced: Equations, places: list[Reads]) -> int | None:
    """Returns which operand of a product depends on the state, if the other is one or several square matrices."""
    if e.primitive != "dot_general":
        return None
    contracted, batched = e.params["dimension_numbers"]
    for n in (0, 1):
        w = traced.avals[e.ins[1 - n]]
        if batched[0] or len(contracted[0]) != 1 or places[e.ins[1 - n]].leaves or w.ndim != 2:
            continue
        if traced.avals[e.ins[n]].ndim != 1 or contracted[1 - n][0] != n:
            continue
        rows = w.shape[n]
        if places[e.ins[n]].slopes and w.shape[1 - n] % rows == 0:
            return n
    return None


def _tiled_reads(traced: Equations) -> list[Reads]:
    """Returns the reads of each place, where a product with a matrix [n, m * n] keeps the axis of the state.

    Its axis of m * n elements is treated as m tiles, each aligned with the n elements of the state.
    """
    sizes = [traced.avals[p].shape for p in traced.ins[1]]
    places = [NOTHING] * len(traced.avals)
    for n, place in enumerate(traced.ins[1]):
        places[place] = reads_of_leaf(n, traced.avals[place])
    for e in traced.equations:
        for k, place in enumerate(e.outs):
            found = reads_of(e, [places[p] for p in e.ins], traced, k)
            if (operand := _operand_of_diagonal(e, traced, places)) is not None:
                of_a = places[e.ins[operand]]
                found = Reads(found.leaves, {leaf: dict(axes) for leaf, axes in of_a.slopes.items()})
            elif e.primitive in ("split", "slice"):
                found = _cut_tiles(e, places[e.ins[0]], traced, k, sizes)
            places[place] = found
    return places


def _cut_tiles(e: Equation, reads: Reads, traced: Equations, k: int, sizes: Shapes) -> Reads:
    """Returns the reads of a part of a value, which is still aligned if it consists of whole tiles."""
    old, new = traced.avals[e.ins[0]].shape, traced.avals[e.outs[k]].shape
    if e.primitive == "split":
        start = [sum(e.params["sizes"][:k]) if a == e.params["axis"] else 0 for a in range(len(old))]
        strides = (1,) * len(old)
    else:
        start, strides = e.params["start_indices"], e.params["strides"] or (1,) * len(old)

    def survives(leaf: int, a: int, n: int) -> bool:
        size = sizes[leaf][a]
        return strides[n] == 1 and start[n] % size == 0 and new[n] % size == 0

    slopes = {leaf: {a: n for a, n in axes.items() if survives(leaf, a, n)} for leaf, axes in reads.slopes.items()}
    return Reads(reads.leaves, slopes)
