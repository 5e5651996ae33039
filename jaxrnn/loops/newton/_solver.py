"""Solves the components of a cell's state one after the other, each for all steps at once, and differentiates them.

The states of a component are the solution x of x = F(x, inputs), where F applies the step to the states before all
steps. `jax.custom_jvp` defines the derivative of the solution: its tangent solves dx = F_x dx + F_inputs dinputs, which
is a linear recurrence. `jax.lax.custom_linear_solve` solves this recurrence in forward mode, and its transpose, from
the last step to the first, in reverse mode. Both are exact derivatives at the states that were found, for any part of
the Jacobian, because they are found by the same kind of iteration as the states.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxrnn._kinds import cast
from jaxrnn._tracing import is_narrow
from jaxrnn.layer import Cell, Params, State
from jaxrnn.loops._step import keep_if_padded, restart
from jaxrnn.loops._unused import IgnoringUnused
from jaxrnn.loops.newton._blocks import Block, full_block
from jaxrnn.loops.newton._dependencies import Component, components, trace_step
from jaxrnn.loops.newton._iteration import Correction, Leaves, Tolerance, shift, solve
from jaxrnn.loops.newton._jacobian import Jacobian, UsedDerivatives, apply_jacobian, jacobian_of
from jaxrnn.loops.newton._recurrence import solve_linear
from jaxrnn.ops import spread_like, where

ROUNDINGS = 8  # largest residual that counts as rounding, in units of the machine epsilon


class ComponentInputs(NamedTuple):
    """The inputs of a component. Time is the first axis of those that have one.

    Attributes:
      params: The parameters.
      zs: The projected inputs of all steps.
      first: The leaves of the state before the first step.
      initial: The leaves of the state with which a sequence begins.
      before: The leaves of the states before all steps. Only those of earlier components are known.
      valid: False in the padding; None: no padding.
      restarts: True where a step starts from `initial`; None: nowhere.
    """

    params: Params
    zs: Any
    first: Leaves
    initial: Leaves
    before: Leaves
    valid: Array | None
    restarts: Array | None


class RealState:
    """Converts a state to a list of real arrays and back. Complex arrays become two, low precision `float32`."""

    def __init__(self, state: State):
        leaves, self.structure = jax.tree.flatten(state)
        self.dtypes = [wide(leaf).dtype for leaf in leaves]
        self.numbers: list[int] = []  # for each array of the list, the number of its leaf of the state
        for n, dtype in enumerate(self.dtypes):
            self.numbers += [n, n] if jnp.issubdtype(dtype, jnp.complexfloating) else [n]

    def leaves_of(self, state: State) -> Leaves:
        leaves = []
        for x, dtype in zip(jax.tree.leaves(state), self.dtypes, strict=True):
            is_complex = jnp.issubdtype(dtype, jnp.complexfloating)
            x = cast(x, dtype)
            leaves += [x.real, x.imag] if is_complex else [x]
        return leaves

    def state_of(self, leaves: Leaves) -> State:
        rest = iter(leaves)
        state = []
        for dtype in self.dtypes:
            x = next(rest)
            state.append(jax.lax.complex(x, next(rest)) if jnp.issubdtype(dtype, jnp.complexfloating) else x)
        return jax.tree.unflatten(self.structure, state)

    def step(self, step: Any, params: Params, leaves: Leaves, z: Any) -> Leaves:
        """Applies a cell's step to a state given as a list."""
        return self.leaves_of(step(params, self.state_of(leaves), z))


def wide(x: Array) -> Array:
    """Casts an array of low precision to `float32`, and returns any other unchanged."""
    return x.astype(jnp.float32) if is_narrow(x.dtype) else x


@dataclass(frozen=True, eq=False)
class ComponentSolver:
    """Computes the states of one component: `solver(given) -> (leaves after all steps, iterations [*batch])`.

    Attributes:
      step: The step of a cell on lists of leaves, whose derivatives ignore what is not used.
      used: The derivatives that Newton's method uses.
      component: The component.
      tolerance: Which residuals count as zero.
    """

    step: Any
    used: UsedDerivatives
    component: Component
    tolerance: Tolerance

    def __call__(self, given: ComponentInputs) -> tuple[Leaves, Array]:
        @jax.custom_jvp
        def run(given: ComponentInputs) -> tuple[Leaves, Array]:
            guess = [jnp.broadcast_to(given.first[n], given.before[n].shape) for n in self.component.leaves]
            correction = Correction(partial(self._jacobians, given=given), self._propagate)
            after = partial(self.after, given=given)
            states, count = solve(after, correction, guess, _begins(given), self.tolerance)
            # Inside `jax.shard_map`, the tangent of an integer cannot have the type that JAX expects.
            return states, count.astype(jnp.float32)

        def derivative(primals: tuple[ComponentInputs], tangents: tuple[ComponentInputs]) -> Any:
            (given,) = primals
            states, count = run(given)
            _, driven = jax.jvp(lambda given: self.after(states, given), primals, tangents)
            return (states, count), (self._tangents(states, given, driven), spread_like(count, jnp.zeros_like(count)))

        run.defjvp(derivative)
        states, count = run(given)
        return states, count.astype(jnp.int32)

    def after(self, states: Leaves, given: ComponentInputs) -> Leaves:
        """Returns the leaves after all steps, given a guess of them, which determines those before the steps."""
        unchanged = self._shifted(states, given)
        after = self._step(self.step, self._restarted(unchanged, given), given)
        return keep_if_padded(unchanged, after, given.valid)

    def step_by_step(self, given: ComponentInputs) -> Leaves:
        """Returns the leaves after all steps, computed in a loop because they are integers without derivatives."""

        def body(own: Leaves, now: Any) -> tuple[Leaves, Leaves]:
            before, z, valid, restarts = now
            at_step = given._replace(before=before, zs=z, valid=valid, restarts=restarts)
            after = self._step(self.step, self._restarted(own, at_step), at_step)
            after = keep_if_padded(own, after, valid)
            return after, after

        first = [given.first[n] for n in self.component.leaves]
        return jax.lax.scan(body, first, (given.before, given.zs, given.valid, given.restarts))[1]

    def _shifted(self, states: Leaves, given: ComponentInputs) -> Leaves:
        return [shift(x, given.first[n]) for x, n in zip(states, self.component.leaves, strict=True)]

    def _restarted(self, before: Leaves, given: ComponentInputs) -> Leaves:
        return restart(before, given.restarts, [given.initial[n] for n in self.component.leaves])

    def _step(self, step: Any, before: Leaves, given: ComponentInputs) -> Leaves:
        """Returns the leaves of this component after all steps, given those before them."""
        everything = list(given.before)
        for n, x in zip(self.component.leaves, before, strict=True):
            everything[n] = x
        after = step(given.params, everything, given.zs)
        return [after[n] for n in self.component.leaves]

    def _of_block(self, leaves: Leaves, block: Block) -> Leaves:
        return [leaves[self.component.leaves.index(n)] for n in block.leaves]

    def _jacobians(self, states: Leaves, given: ComponentInputs) -> list[Array]:
        """Returns the Jacobians of all steps, one array [time, *batch, *shared, R, R] for each block."""
        before = self._restarted(self._shifted(states, given), given)
        jacobians = []
        for block in self.used.blocks:

            def of_block(leaves: Leaves, block: Block = block) -> Leaves:
                replaced = dict(zip(block.leaves, leaves, strict=True))
                own = [replaced.get(n, x) for n, x in zip(self.component.leaves, before, strict=True)]
                return self._of_block(self._step(self.used.step, own, given), block)

            a = jacobian_of(of_block, self._of_block(before, block), block, self.used.bound)
            if given.valid is not None:  # a padded step is the identity
                a = where(given.valid, a, jnp.eye(block.size, dtype=a.dtype))
            if given.restarts is not None:
                a = where(~_begins(given), a, jnp.zeros((), a.dtype))
            jacobians.append(a)
        return jacobians

    def _propagate(self, jacobians: list[Array], residuals: Leaves) -> Leaves:
        changes = list(residuals)
        for a, block in zip(jacobians, self.used.blocks, strict=True):
            of_steps = solve_linear(a, block.pack(self._of_block(residuals, block)))
            of_block = block.unpack(apply_jacobian(a, shift(of_steps, jnp.zeros_like(of_steps[0]))))
            for n, x in zip(block.leaves, of_block, strict=True):
                changes[self.component.leaves.index(n)] = x
        return changes

    def _tangents(self, states: Leaves, given: ComponentInputs, driven: Leaves) -> Leaves:
        """Returns the solution x of x = F_x x + driven, where F_x is the derivative of `after` by the states."""

        def after(states: Leaves) -> Leaves:
            return self.after(states, given)

        def matvec(x: Leaves) -> Leaves:
            _, change = jax.jvp(after, (states,), (x,))
            return [a - b for a, b in zip(x, change, strict=True)]

        def forwards(_: Any, driven: Leaves) -> Leaves:
            _, push = jax.linearize(after, states)
            jacobians = self._jacobians(states, given)
            return self._linear(push, jacobians, driven, _begins(given))

        def backwards(_: Any, driven: Leaves) -> Leaves:
            _, pull = jax.vjp(after, states)
            following = [
                jnp.concatenate([a[1:], jnp.zeros_like(a[:1])]).swapaxes(-1, -2) for a in self._jacobians(states, given)
            ]
            begins = _begins(given)
            ends = jnp.concatenate([begins[1:], jnp.ones_like(begins[:1])])
            turned = self._linear(lambda x: _flip(pull(_flip(x))[0]), _flip(following), _flip(driven), _flip(ends))
            return _flip(turned)

        def joined(function: Any) -> Any:
            return lambda *args: _join(function(*args[:-1], _split(args[-1], states)))

        # One array, because the transpose of `custom_linear_solve` fails if only some arrays have a derivative.
        together = _join([spread_like(x, t) for x, t in zip(states, driven, strict=True)])
        found = jax.lax.custom_linear_solve(joined(matvec), together, joined(forwards), joined(backwards))
        return _split(found, states)

    def _linear(self, push: Any, jacobians: list[Array], driven: Leaves, begins: Array) -> Leaves:
        def apply(x: Leaves) -> Leaves:
            return [a + b for a, b in zip(driven, push(x), strict=True)]

        correction = Correction(lambda _: jacobians, self._propagate)
        return solve(apply, correction, driven, begins, self.tolerance)[0]


def run_components(
    cell: Cell,
    params: Params,
    state: State,
    zs: Any,
    valid: Array | None,
    restarts: Array | None,
    jacobian: Jacobian,
    tolerance: float | None,
) -> tuple[State, Array]:
    """Returns the states after all steps, and how many iterations each sequence took: [*batch].

    Args:
      cell: The cell.
      params: Its parameters.
      state: The state before the first step.
      zs: The projected inputs of all steps, at least one.
      valid: Booleans [time, *batch], False in the padding; None: no padding.
      restarts: Booleans [time, *batch], True where the state restarts before a step; None: nowhere.
      jacobian: Which part of the Jacobian is used.
      tolerance: See `Newton`.
    """
    real = RealState(state)
    start = cell.initial_state(params)
    first, initial = real.leaves_of(state), real.leaves_of(start)
    params, zs = jax.tree.map(wide, (params, zs))
    batch_shape = first[0].shape[: first[0].ndim - initial[0].ndim]
    leading = 1 + len(batch_shape)
    length = jax.tree.leaves(zs)[0].shape[0]
    one_z = jax.tree.map(lambda z: jax.ShapeDtypeStruct(z.shape[leading:], z.dtype), zs)
    plain = partial(real.step, cell.step)
    traced = trace_step(plain, params, initial, one_z)
    step = partial(real.step, IgnoringUnused.of(cell).step)

    before = [jnp.broadcast_to(x[None], (length, *x.shape)) for x in first]
    after = list(before)
    counts = [jnp.zeros(batch_shape, jnp.int32)]
    rounding = max((float(jnp.finfo(x.dtype).eps) for x in first if jnp.issubdtype(x.dtype, jnp.floating)), default=0.0)
    if tolerance is not None and tolerance < rounding:
        raise ValueError(
            f"Newton's tolerance must be at least {rounding:.2g}, the rounding of the state of {cell}, "
            f"but it is {tolerance:g}"
        )
    for component in components(traced):
        given = ComponentInputs(params, zs, first, initial, before, valid, restarts)
        kinds = {jnp.issubdtype(first[n].dtype, jnp.floating) for n in component.leaves}
        if kinds == {True, False}:
            raise TypeError(
                f"Newton differentiates the state, but in {cell} integers and numbers depend on each other: "
                "call unroll with loop=jaxrnn.loops.Deferred()"
            )
        used = jacobian.used(component, plain, traced, leading)
        numbers = tuple(real.numbers[n] for n in component.leaves)
        residuals = Tolerance(tolerance or ROUNDINGS * rounding, full_block(component).mixing, numbers)
        solver = ComponentSolver(step, used, component, residuals)
        if not component.recurrent:
            found = solver.after([before[n] for n in component.leaves], given)
        elif kinds == {False}:
            found = solver.step_by_step(given)
        else:
            found, count = solver(given)
            counts.append(count)
        for n, x in zip(component.leaves, found, strict=True):
            after[n] = x
            before = list(before)
            (before[n],) = restart([shift(x, first[n])], restarts, [initial[n]])
    return real.state_of(after), jnp.stack(counts).max(0)


def _join(leaves: Leaves) -> Array:
    """Returns an array [time, numbers] of all numbers of the leaves [time, ...]."""
    dtype = max((x.dtype for x in leaves), key=lambda dtype: dtype.itemsize)
    return jnp.concatenate([x.reshape(len(x), -1).astype(dtype) for x in leaves], axis=1)


def _split(joined: Array, like: Leaves) -> Leaves:
    """Returns the leaves of which `_join` has made an array."""
    ends = np.cumsum([x[0].size for x in like])[:-1]
    parts = jnp.split(joined, ends, axis=1)
    return [part.reshape(x.shape).astype(x.dtype) for part, x in zip(parts, like, strict=True)]


def _begins(given: ComponentInputs) -> Array:
    """Returns where a step does not depend on the one before it: [time, *batch]. In the padding, it always does."""
    if given.restarts is not None:
        return given.restarts if given.valid is None else given.restarts & given.valid
    leaf, features = given.before[0], given.initial[0].ndim
    return jnp.zeros(leaf.shape[: leaf.ndim - features], bool)


def _flip(tree: Any) -> Any:
    return jax.tree.map(lambda x: jnp.flip(x, 0), tree)
