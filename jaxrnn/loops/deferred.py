"""`Deferred`: a scan whose backward pass keeps the gradients of the weights out of the loop."""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from jaxrnn import _check as check
from jaxrnn._tracing import Product, TracedStep, ignoring_unused, widen
from jaxrnn.layer import Cell, Loop, Params, State, Steps
from jaxrnn.loops._any_length import scan_any_length
from jaxrnn.loops._chunks import run_in_chunks
from jaxrnn.loops._cotangents import (
    Distinct,
    Leaves,
    add,
    add_all,
    in_float32,
    inexact,
    sum_to,
    vjp,
    without_integers,
    zeros,
)
from jaxrnn.loops._prefetch import prefetching_scan
from jaxrnn.loops._reverse_only import reverse_only
from jaxrnn.loops._stacking import cast_like, stacking_scan
from jaxrnn.loops._step import keep_if_padded, restart
from jaxrnn.ops import spread_like, where


@dataclass(frozen=True)
class Deferred(Loop):
    """Runs a scan with its own backward pass; the default loop.

    Differentiating `lax.scan` carries the gradient of every weight through the loop and adds a small product to it at
    each step. Here the forward loop saves the states and the outputs of the products with weights. The backward loop
    repeats only elementwise operations and returns the cotangents of the products, and each weight's gradient is one
    large product after the loop. The gradients of parameters that are not part of a product are summed in the loop.

    It has no forward-mode derivative: `jax.jvp` raises an error that names `Scan`, which has one.

    Example:
      >>> cell = jaxrnn.LSTM(4)
      >>> params, xs = cell.init(jax.random.key(0), 3), jnp.ones((10, 2, 3))
      >>> loss = lambda params: jaxrnn.unroll(cell, params, xs, loop=jaxrnn.loops.Deferred(unroll=2))[1].sum()
      >>> jax.grad(loss)(params).w_h.shape
      (4, 16)

    Args:
      unroll: Number of steps in one iteration of the compiled loop.
      checkpoint_every: None, or the number of steps between the states that are kept for the backward pass, which
        recomputes the steps in between. It need not divide the length.
      block: Number of steps that are projected at once, and whose contributions to the weights' gradients are computed
        at once. Small blocks stay in the cache, and large ones make large products. On a CPU, None chooses blocks of
        about two megabytes or about 512 rows of projected inputs, whichever is more; on other devices, it chooses one
        block of all steps.
    """

    _: KW_ONLY
    unroll: int = 1
    checkpoint_every: int | None = None
    block: int | None = None

    def __post_init__(self) -> None:
        check.positive(self, "unroll")
        check.positive_or_none(self, "checkpoint_every", "block")

    def __call__(self, cell: Cell, params: Params, steps: Steps, state: State) -> tuple[State, Any]:
        def run_block(params: Params, state: State, steps: Steps) -> tuple[State, Any]:
            zs = steps.project(_ProjectingCell(cell), params)
            z = jax.eval_shape(lambda zs: jax.tree.map(_first_or_zeros, zs), zs)
            step = TracedStep(cell.step, params, state, z)
            scan = _Scan(
                step, _leaves_read_by(cell.readout, params, state, z), steps.length, steps.reverse, self.unroll
            )
            leaves, tree = jax.tree.flatten(state)
            inputs = _Inputs(
                weights=step.weights(params),
                state=leaves,
                initial=jax.tree.leaves(cell.initial_state(params)),
                zs=jax.tree.leaves(zs),
                valid=steps.valid,
                restarts=steps.restarts,
            )
            last, read_states = scan(inputs)
            states = [  # the loop does not store what the readout does not read
                spread_like(leaf, jnp.zeros((steps.length, *leaf.shape), leaf.dtype)) for leaf in leaves
            ]
            for n, stacked in zip(scan.leaves_read, read_states, strict=True):
                states[n] = stacked
            return tree.unflatten(last), ignoring_unused(cell.readout)(params, tree.unflatten(states), zs)

        def run_blocks(params: Params, state: State, steps: Steps) -> tuple[State, Any]:
            return run_in_chunks(run_block, self.block or _block_size(cell, params, steps), params, state, steps)

        params, state, xs = reverse_only((params, state, steps.xs))
        steps = steps.replace_varying((xs, *steps.varying[1:]))
        run = jax.checkpoint(run_blocks) if self.checkpoint_every else run_blocks
        return run_in_chunks(run, self.checkpoint_every, params, state, steps)


def _block_size(cell: Cell, params: Params, steps: Steps) -> int | None:
    """Chooses how many steps to project at once on this machine."""
    sizes = {size for leaf in jax.tree.leaves(steps) for size in leaf.shape}
    if jax.default_backend() != "cpu" or not all(isinstance(size, int) for size in sizes) or steps.length < 2:
        return None  # sizes are symbolic under `jax.export`
    first = steps.replace_varying(jax.tree.map(lambda x: x[:1], steps.varying))
    zs = jax.eval_shape(lambda params, steps: steps.project(cell, params), params, first)
    leaves = jax.tree.leaves(zs)
    bytes_per_step = sum(leaf.size * leaf.dtype.itemsize for leaf in leaves)
    if not bytes_per_step:  # the batch is empty, or the cell ignores its input
        return None
    rows = max(leaf.size // leaf.shape[-1] if leaf.ndim > 1 else 1 for leaf in leaves)
    largest = max(2**21 // bytes_per_step, 512 // rows, 1)
    divisors = [size for size in range(largest, largest // 2, -1) if steps.length % size == 0]
    return divisors[0] if divisors else largest


def _first_or_zeros(z: Array) -> Array:
    """Returns the first step's entry, or zeros if there are no steps (only its shape is used)."""
    return jnp.concatenate([z, jnp.zeros((1, *z.shape[1:]), z.dtype)])[0]


def _leaves_read_by(readout: Any, params: Params, state: State, z: Any) -> list[int]:
    """Returns the indices of the leaves of the state that the output depends on."""
    jaxpr = jax.make_jaxpr(readout)(params, state, z).jaxpr
    atoms = [*jaxpr.outvars, *(atom for eqn in jaxpr.eqns for atom in eqn.invars)]
    first = len(jax.tree.leaves(params))
    variables = jaxpr.invars[first : first + len(jax.tree.leaves(state))]
    return [n for n, variable in enumerate(variables) if any(variable is atom for atom in atoms)]


class _Inputs(NamedTuple):
    """What the loop reads; all pytrees are lists of leaves."""

    weights: Leaves  # from `TracedStep.weights`
    state: Leaves  # before the first step
    initial: Leaves  # the state from which a step starts after a reset
    zs: Leaves  # projected inputs, time first
    valid: Array | None
    restarts: Array | None


class _Saved(NamedTuple):
    """What the forward pass saves for the backward pass. `zs` has None where a leaf is not needed."""

    inputs: _Inputs
    read_states: Leaves  # the leaves of the states that are outputs, time first
    before: list[Any]  # the other leaves of the states before each step; None where `read_states` has them
    values: Leaves  # what `TracedStep.replay` needs, time first


@dataclass(frozen=True, eq=False)
class _Scan:
    """The loop over one block as a differentiable function: `scan(inputs) -> (last state, read states)`."""

    step: TracedStep
    leaves_read: list[int]  # the indices of the leaves of the state that are returned for every step
    length: Any
    reverse: bool
    unroll: int

    def __call__(self, inputs: _Inputs) -> tuple[Leaves, Leaves]:
        @jax.custom_vjp
        def scan(inputs: _Inputs) -> tuple[Leaves, Leaves]:
            last, read_states, _ = self._forward(inputs, save=False)
            return last, read_states

        def forward(inputs: _Inputs) -> tuple[tuple[Leaves, Leaves], _Saved]:
            last, read_states, (before, values) = self._forward(inputs, save=True)
            kept_zs: list[Any] = [z if n in self.step.z_kept else None for n, z in enumerate(inputs.zs)]
            saved = inputs._replace(zs=widen(kept_zs))
            return (last, read_states), _Saved(saved, widen(read_states), before, values)

        def backward(saved: _Saved, cotangents: tuple[Leaves, Leaves]) -> tuple[_Inputs]:
            return (self._backward(saved, *cotangents),)

        scan.defvjp(forward, backward)
        return scan(inputs)

    def _loop(self, body: Any, carry: Any, xs: Any, *, reverse: bool) -> Any:
        prefetch = self.step.reads_state_elementwise and jax.default_backend() == "cpu"
        how: Any = {"length": self.length, "reverse": reverse, "unroll": self.unroll}
        scan = prefetching_scan if prefetch else scan_any_length
        return stacking_scan(lambda _, carry, x: body(carry, x), None, carry, xs, scan=scan, **how)

    def _forward(self, inputs: _Inputs, save: bool) -> tuple[Leaves, Leaves, Any]:
        """Returns the last state, the read states, and with `save` what the backward pass needs."""
        read_before = self._read_before(inputs.restarts)

        def body(state: Leaves, now: Any) -> tuple[Leaves, Any]:
            z, valid, restarts = now
            before = restart(state, restarts, inputs.initial)
            after, values = self.step.run(inputs.weights, before, z)
            after = keep_if_padded(state, jax.tree.leaves(after), valid)
            unread: list[Any] = [None if n in read_before else x for n, x in enumerate(before)]
            return after, ([after[n] for n in self.leaves_read], widen((unread, values)) if save else None)

        xs = (inputs.zs, inputs.valid, inputs.restarts)
        last, (read_states, saved) = self._loop(body, inputs.state, xs, reverse=self.reverse)
        return last, read_states, saved

    def _read_before(self, restarts: Array | None) -> list[int]:
        """Returns which leaves of the state before a step are outputs of the step before, and need no second copy."""
        return self.leaves_read if restarts is None else []

    def _states_before(self, saved: _Saved) -> Leaves:
        """Returns the states before all steps."""
        before = list(saved.before)
        for n, after in zip(self._read_before(saved.inputs.restarts), saved.read_states, strict=False):
            first = saved.inputs.state[n][None].astype(after.dtype)
            parts = [after[1:], first] if self.reverse else [first, after[:-1]]
            before[n] = jnp.concatenate(parts)[: after.shape[0]]  # there may be no steps
        return before

    def _backward(self, saved: _Saved, ct_last: Leaves, ct_read_states: Leaves) -> _Inputs:
        """Returns the cotangents of the inputs."""
        step, inputs = self.step, saved.inputs
        states_before = self._states_before(saved)
        ct_last, ct_read_states = without_integers(ct_last), without_integers(ct_read_states)
        # Weights are transposed once and not at every step; but a single row is multiplied by their columns in place.
        has_rows = any(ct is not None and any(size != 1 for size in ct.shape[:-1]) for ct in ct_last)
        in_memory = _transposed(inputs.weights) if has_rows else inputs.weights
        other_weights = [inputs.weights[n] for n in step.other_weights]
        no_taps = zeros([product.aval for product in step.products])

        def replay(before: Leaves, z: Leaves, other_weights: Leaves, taps: Leaves, values: Leaves) -> Any:
            """Runs the step given everything nonlinear in its products, so that only elementwise work is left."""
            operands: Leaves = []
            taps_left = iter(taps)

            def multiply(product: Product, a: Array, w: Array) -> Array:
                operands.append(a)
                return _tapped(product)(a, w, next(taps_left))

            weights = [w.T if has_rows and w.ndim == 2 else w for w in in_memory]
            for n, w in zip(step.other_weights, other_weights, strict=True):
                weights[n] = w
            after = step.replay(weights, before, z, values, multiply)
            return jax.tree.leaves(after), operands

        def body(carry: Any, now: Any) -> Any:
            ct_after, ct_initial, ct_others = carry
            z, valid, restarts, before, values, ct_read = now
            ct_after = list(ct_after)
            for n, ct in zip(self.leaves_read, ct_read, strict=True):
                ct_after[n] = add(ct_after[n], ct)
            z = [zeros(aval) if x is None else x.astype(aval.dtype) for x, aval in zip(z, step.z_avals, strict=True)]
            before = cast_like(before, inputs.state)
            pull, operands = vjp(replay, before, z, other_weights, no_taps, values)
            ct_before, ct_z, ct_w, ct_taps, _ = pull(
                ct_after if valid is None else where(valid, ct_after, zeros(ct_after))
            )
            if restarts is not None:
                dropped = where(restarts, ct_before, zeros(ct_before))
                ct_initial = jax.tree.map(
                    lambda total, ct: total + sum_to(ct.astype(total.dtype), total.shape), ct_initial, dropped
                )
                ct_before = where(restarts, zeros(ct_before), ct_before)
            if valid is not None:
                ct_before = add_all(ct_before, where(valid, zeros(ct_after), ct_after))
            out = Distinct.of([*ct_z, *ct_taps, *operands], known=before)
            return (ct_before, ct_initial, add_all(ct_others, ct_w)), out

        carry = (ct_last, zeros(in_float32(inexact(inputs.initial))), zeros(in_float32(inexact(other_weights))))
        xs = (inputs.zs, inputs.valid, inputs.restarts, states_before, saved.values, ct_read_states)
        (ct_state, ct_initial, ct_others), out = self._loop(body, carry, xs, reverse=not self.reverse)

        stacked = out.restore(known=cast_like(states_before, inputs.state))
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
            ct_weights[n] = add(ct_weights[n], product.pull_w(a, ct, inputs.weights[n]))
        return _Inputs(ct_weights, ct_state, cts_of_initial, ct_zs, None, None)


def _transposed(weights: Leaves) -> Leaves:
    """Returns matrices whose transposes are in memory, so that a product with `w.T` needs no transposition."""
    return [jax.lax.optimization_barrier(w.T) if w.ndim == 2 else w for w in weights]


class _ProjectingCell(NamedTuple):
    """A cell's `project`, whose products have the cheaper cotangents of `Product`."""

    cell: Cell

    def project(self, params: Params, x: Any, key: Any = None) -> Any:
        def project(params: Params, x: Any, key: Any) -> Any:
            return self.cell.project(params, x, key)

        traced = TracedStep(project, params, x, key)
        z, _ = traced.run(traced.weights(params), x, key, lambda product, a, w: _multiplied(product)(a, w))
        return z


def _multiplied(product: Product) -> Any:
    """Returns a product with its own cotangents."""

    @jax.custom_vjp
    def multiply(a: Array, w: Array) -> Array:
        return product(a, w)

    def forward(a: Array, w: Array) -> tuple[Array, tuple[Array, Array]]:
        return product(a, w), (widen(a), w)

    def backward(saved: tuple[Array, Array], ct: Array) -> tuple[Array, Array]:
        a, w = saved
        a = a.astype(product.a_dtype)
        return product.pull_a(ct, w, a), product.pull_w(a[None], ct[None], w)

    multiply.defvjp(forward, backward)
    return multiply


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
