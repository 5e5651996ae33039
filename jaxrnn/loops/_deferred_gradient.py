"""The gradient of a loop, with the gradients of the weights kept out of the loop."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from jaxrnn._tracing import Product, TracedStep, ignoring_unused, widen
from jaxrnn.layer import Cell, Params, State, Steps
from jaxrnn.loops._cotangents import (
    Distinct,
    Leaves,
    add,
    add_all,
    in_float32,
    inexact,
    vjp,
    without_integers,
    zeros,
)
from jaxrnn.loops._stacking import cast_like
from jaxrnn.loops._step import keep_if_padded, restart
from jaxrnn.ops import spread_like, where

RunLoop = Callable[..., Any]  # (body, shared, carry, totals, xs, *, reverse) -> (carry, totals, ys)


class Inputs(NamedTuple):
    """What the loop reads; all pytrees are lists of leaves."""

    weights: Leaves  # from `TracedStep.weights`
    state: Leaves  # before the first step
    initial: Leaves  # the state from which a step starts after a reset
    zs: Leaves  # projected inputs, time first
    valid: Array | None
    restarts: Array | None


class Before(NamedTuple):
    """A leaf of the states before all steps, without a copy of the states after them, which are stored anyway."""

    first: Array  # [*batch, ...], before the step that runs first
    after: Array  # [time, *batch, ...], after each step
    reverse: bool  # whether the last step runs first

    def stacked(self) -> Array:
        """Returns the states as one array [time, *batch, ...]."""
        first = self.first[None].astype(self.after.dtype)
        parts = [self.after[1:], first] if self.reverse else [first, self.after[:-1]]
        return jnp.concatenate(parts)[: self.after.shape[0]]  # there may be no steps


OfMatrix = Callable[[Array | Before, Array], Array]  # (a [rows, k], ct [rows, n]) -> a.T @ ct, a weight's gradient


class Saved(NamedTuple):
    """What the forward pass saves for the backward pass. `zs` has None where a leaf is not needed."""

    inputs: Inputs
    read_states: Leaves  # the leaves of the states that are outputs, time first
    before: list[Any]  # the other leaves of the states before each step; None where `read_states` has them
    values: Leaves  # what `TracedStep.replay` needs, time first


@dataclass(frozen=True, eq=False)
class DeferredGradient:
    """A loop over steps as a differentiable function: `loop(inputs) -> (last state, read states)`.

    Attributes:
      step: The traced step.
      leaves_read: The indices of the leaves of the state that are returned for every step.
      reverse: Whether to run the last step first.
      run: How to run `carry, increments, y = body(shared, carry, x)` over the steps.
      transpose: Whether to transpose the weights once, before the backward loop.
      batch_axes: How many batch axes the arrays have that the traced step does not have.
      of_matrix: How to compute the gradient of a matrix, as for `Product.pull_w`; None leaves it to XLA.
    """

    step: TracedStep
    leaves_read: list[int]
    reverse: bool
    run: RunLoop
    transpose: bool
    batch_axes: int = 0
    of_matrix: OfMatrix | None = None

    def __call__(self, inputs: Inputs) -> tuple[Leaves, Leaves]:
        @jax.custom_vjp
        def scan(inputs: Inputs) -> tuple[Leaves, Leaves]:
            last, read_states, _ = self._forward(inputs, save=False)
            return last, read_states

        def forward(inputs: Inputs) -> tuple[tuple[Leaves, Leaves], Saved]:
            last, read_states, (before, values) = self._forward(inputs, save=True)
            kept_zs: list[Any] = [z if n in self.step.z_kept else None for n, z in enumerate(inputs.zs)]
            saved = inputs._replace(zs=widen(kept_zs))
            return (last, read_states), Saved(saved, widen(read_states), before, values)

        def backward(saved: Saved, cotangents: tuple[Leaves, Leaves]) -> tuple[Inputs]:
            return (self._backward(saved, *cotangents),)

        scan.defvjp(forward, backward)
        return scan(inputs)

    def _forward(self, inputs: Inputs, save: bool) -> tuple[Leaves, Leaves, Any]:
        """Returns the last state, the read states, and with `save` what the backward pass needs."""
        read_before = self._read_before(inputs.restarts)

        def body(shared: Any, state: Leaves, now: Any) -> tuple[Leaves, None, Any]:
            weights, initial = shared
            z, valid, restarts = now
            before = restart(state, restarts, initial)
            after, values = self.step.run(weights, before, z)
            after = keep_if_padded(state, jax.tree.leaves(after), valid)
            unread: list[Any] = [None if n in read_before else x for n, x in enumerate(before)]
            return after, None, ([after[n] for n in self.leaves_read], widen((unread, values)) if save else None)

        shared, xs = (inputs.weights, inputs.initial), (inputs.zs, inputs.valid, inputs.restarts)
        last, _, (read_states, saved) = self.run(body, shared, inputs.state, None, xs, reverse=self.reverse)
        return last, read_states, saved

    def _as_steps(self, x: Array) -> Array:
        """Merges the batch axes that the traced step does not have into the time axis."""
        axes = 1 + self.batch_axes
        return x.reshape(math.prod(x.shape[:axes]), *x.shape[axes:])

    def _read_before(self, restarts: Array | None) -> list[int]:
        """Returns the leaves of the state that are not saved before each step, because they are outputs anyway.

        After a reset, the state before a step differs from the output of the step before.
        """
        return self.leaves_read if restarts is None else []

    def _states_before(self, saved: Saved) -> list[Array | Before]:
        """Returns the leaves of the states before all steps."""
        before = list(saved.before)
        for n, after in zip(self._read_before(saved.inputs.restarts), saved.read_states, strict=False):
            before[n] = Before(saved.inputs.state[n], after, self.reverse)
        return before

    def _gradient_of_weight(self, product: Product, a: Array | Before, ct: Array, w: Array) -> Array:
        """Returns a product's part of the gradient of `w`. It copies the states of a `Before` only if it must."""
        if isinstance(a, Before):
            in_rows = product.is_of_matrix and a.first.ndim == 1 + self.batch_axes
            if self.of_matrix and in_rows and a.first.dtype == a.after.dtype == ct.dtype == jnp.float32:
                first, after = (x.reshape(-1, x.shape[-1]) for x in (a.first, a.after))
                return self.of_matrix(Before(first, after, a.reverse), self._as_steps(ct)).astype(w.dtype)
            a = a.stacked()
        return product.pull_w(self._as_steps(a), self._as_steps(ct), w, self.of_matrix)

    def _backward(self, saved: Saved, ct_last: Leaves, ct_read_states: Leaves) -> Inputs:
        """Returns the cotangents of the inputs."""
        step, inputs = self.step, saved.inputs
        states_before = self._states_before(saved)
        stacked_before = [x.stacked() if isinstance(x, Before) else x for x in states_before]
        ct_last, ct_read_states = without_integers(ct_last), without_integers(ct_read_states)
        in_memory = _transposed(inputs.weights) if self.transpose else inputs.weights
        other_weights = [inputs.weights[n] for n in step.other_weights]
        no_taps = zeros([product.aval for product in step.products])

        def body(shared: Any, ct_after: Any, now: Any) -> Any:
            in_memory, other_weights = shared
            z, valid, restarts, before, values, ct_read = now

            def replay(before: Leaves, z: Leaves, other_weights: Leaves, taps: Leaves, values: Leaves) -> Any:
                """Runs the step given everything nonlinear in its products, so that only elementwise work is left."""
                operands: Leaves = []
                taps_left = iter(taps)

                def multiply(product: Product, a: Array, w: Array) -> Array:
                    operands.append(a)
                    return _tapped(product)(a, w, next(taps_left))

                weights = [w.T if self.transpose and w.ndim == 2 else w for w in in_memory]
                for n, w in zip(step.other_weights, other_weights, strict=True):
                    weights[n] = w
                after = step.replay(weights, before, z, values, multiply)
                return jax.tree.leaves(after), operands

            ct_after = list(ct_after)
            for n, ct in zip(self.leaves_read, ct_read, strict=True):
                ct_after[n] = add(ct_after[n], ct)
            z = [zeros(aval) if x is None else x.astype(aval.dtype) for x, aval in zip(z, step.z_avals, strict=True)]
            before = cast_like(before, inputs.state)
            pull, operands = vjp(replay, before, z, other_weights, no_taps, values)
            ct_before, ct_z, ct_w, ct_taps, _ = pull(
                ct_after if valid is None else where(valid, ct_after, zeros(ct_after))
            )
            dropped = None
            if restarts is not None:
                dropped = where(restarts, ct_before, zeros(ct_before))
                ct_before = where(restarts, zeros(ct_before), ct_before)
            if valid is not None:
                ct_before = add_all(ct_before, where(valid, zeros(ct_after), ct_after))
            return ct_before, (dropped, ct_w), Distinct.of([*ct_z, *ct_taps, *operands], known=[*before, *z])

        ct_initial = zeros(in_float32(inexact(inputs.initial)))
        totals = (None if inputs.restarts is None else ct_initial, zeros(in_float32(inexact(other_weights))))
        xs = (inputs.zs, inputs.valid, inputs.restarts, stacked_before, saved.values, ct_read_states)
        shared = (in_memory, other_weights)
        ct_state, totals, out = self.run(body, shared, ct_last, totals, xs, reverse=not self.reverse)
        ct_others = totals[1]
        ct_initial = ct_initial if totals[0] is None else totals[0]

        zs = [None if z is None else z.astype(aval.dtype) for z, aval in zip(inputs.zs, step.z_avals, strict=True)]
        states_before = [
            x if isinstance(x, Before) else x.astype(s.dtype) for x, s in zip(states_before, inputs.state, strict=True)
        ]
        stacked = out.restore(known=[*states_before, *zs])
        num_zs, num_products = len(step.z_avals), len(step.products)
        ct_zs, ct_products, operands = (
            stacked[:num_zs],
            stacked[num_zs : num_zs + num_products],
            stacked[num_zs + num_products :],
        )
        ct_weights: list[Any] = [None] * len(inputs.weights)
        for n, ct in zip(step.other_weights, ct_others, strict=True):
            ct_weights[n] = None if ct is None else ct.astype(inputs.weights[n].dtype)
        cts_of_initial: list[Any] = [
            None if ct is None else ct.astype(x.dtype) for ct, x in zip(ct_initial, inputs.initial, strict=True)
        ]
        for n, product, a, ct in zip(step.weight_of_product, step.products, operands, ct_products, strict=True):
            ct_weights[n] = add(ct_weights[n], self._gradient_of_weight(product, a, ct, inputs.weights[n]))
        return Inputs(ct_weights, ct_state, cts_of_initial, ct_zs, None, None)


def run_with(
    loop: DeferredGradient, cell: Cell, params: Params, steps: Steps, state: State, inputs: Any, zs: Any
) -> tuple[State, Any]:
    """Runs a cell; returns the last state and the outputs.

    Args:
      loop: The loop over the steps.
      cell, params, steps, state: As for any loop.
      inputs: What the traced step reads: the projected inputs, or inputs that the step projects.
      zs: The projected inputs, for the readout. Their values do not matter if it does not read them.
    """
    leaves, tree = jax.tree.flatten(state)
    given = Inputs(
        weights=loop.step.weights(params),
        state=leaves,
        initial=jax.tree.leaves(cell.initial_state(params)),
        zs=jax.tree.leaves(inputs),
        valid=steps.valid,
        restarts=steps.restarts,
    )
    last, read_states = loop(given)
    states = [  # the loop does not store what the readout does not read
        spread_like(leaf, jnp.zeros((steps.length, *leaf.shape), leaf.dtype)) for leaf in leaves
    ]
    for n, stacked in zip(loop.leaves_read, read_states, strict=True):
        states[n] = stacked
    return tree.unflatten(last), ignoring_unused(cell.readout)(params, tree.unflatten(states), zs)


class OfReadout:
    """What a readout reads.

    Attributes:
      leaves_read: The indices of the leaves of the state that the output depends on.
      reads_input: Whether it depends on the projected input.
    """

    def __init__(self, readout: Any, params: Params, state: State, z: Any):
        jaxpr = jax.make_jaxpr(readout)(params, state, z).jaxpr
        atoms = [*jaxpr.outvars, *(atom for eqn in jaxpr.eqns for atom in eqn.invars)]
        num_params, num_states = len(jax.tree.leaves(params)), len(jax.tree.leaves(state))
        read = [any(variable is atom for atom in atoms) for variable in jaxpr.invars[num_params:]]
        self.leaves_read = [n for n in range(num_states) if read[n]]
        self.reads_input = any(read[num_states:])


def _transposed(weights: Leaves) -> Leaves:
    """Returns matrices whose transposes are in memory, so that a product with `w.T` needs no transposition."""
    return [jax.lax.optimization_barrier(w.T) if w.ndim == 2 else w for w in weights]


def _tapped(product: Product) -> Any:
    """Returns `multiply(a, w, tap)`, whose value is `tap` because nothing reads it.

    Its cotangent goes to `a`, and to `tap`, from where the gradient of `w` is computed after the loop.
    """

    @jax.custom_vjp
    def multiply(a: Array, w: Array, tap: Array) -> Array:
        return tap

    def backward(saved: tuple[Array, Array], ct: Array) -> tuple[Array, None, Array]:
        a, w = saved
        return product.pull_a(ct, w, a), None, ct

    multiply.defvjp(lambda a, w, tap: (tap, (a, w)), backward)
    return multiply
