"""`Deferred`: a scan whose backward pass leaves the gradients of the weights out of the loop."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from jaxrnn.layer import Cell, Params, Plan, State
from jaxrnn.loops.cotangents import Leaves, add, add_all, cut, inexact, sum_to, unique, vjp, without_integers, zeros
from jaxrnn.loops.prefetch import prefetching_scan
from jaxrnn.loops.reverse_only import reverse_only
from jaxrnn.loops.scan import Loop, Steps, check_counts, in_chunks, masked_step, project
from jaxrnn.ops import spread_like, where
from jaxrnn.program import Product, Program


@dataclass(frozen=True)
class Deferred(Loop):
    """A scan with a backward pass of its own.

    Differentiating `lax.scan` carries the gradient of every weight through the loop and adds a small product to it
    at each step. Here the forward loop keeps the states and the outputs of the products with weights; the backward
    loop repeats only what is elementwise and puts out the products' cotangents; each weight's
    gradient is one large product after the loop. What else depends on parameters is summed in the loop.

    It has no forward-mode derivative: `jax.jvp` raises, and `Scan` has one.

    Args:
      unroll: how many steps stand in one iteration of the compiled loop.
      checkpoint_every: None, or a number of steps: only every so many states are kept for the backward
        pass and the steps between are computed again. Need not divide the length.
      block: how many steps are projected at once and add to the weights' gradients as one. Small
        blocks stay in the cache, large ones make large products. None: on a CPU what makes two megabytes
        of projected inputs, but at least 512 rows of them; elsewhere all steps.
    """

    unroll: int = 1
    checkpoint_every: int | None = None
    block: int | None = None

    def __post_init__(self) -> None:
        check_counts(self)

    def __call__(
        self, cell: Cell, params: Params, xs: Any, state: State, key: Array | None, plan: Plan
    ) -> tuple[State, Any]:
        def run(params: Params, state: State, steps: Steps) -> tuple[State, Any]:
            zs = project(_Projecting(cell), params, steps, key)
            z = jax.eval_shape(lambda zs: jax.tree.map(_one_of, zs), zs)
            program = Program(cell.step, params, state, z)
            scan = _Scan(program, _read_by(cell.readout, params, state, z), plan.reverse, self.unroll)
            restart = cell.initial_state(params)
            leaves, tree = jax.tree.flatten(state)
            leaves, kept = scan(
                program.weights(params),
                leaves,
                jax.tree.leaves(restart),
                jax.tree.leaves(zs),
                steps.valid,
                steps.resets,
            )
            states = [
                spread_like(s, jnp.zeros((steps.length, *s.shape), s.dtype)) for s in leaves
            ]  # those not read: never made
            for n, stacked in zip(scan.read, kept, strict=True):
                states[n] = stacked
            return tree.unflatten(leaves), cell.readout(params, tree.unflatten(states), zs)

        params, xs, state = reverse_only((params, xs, state))

        def run_blocks(params: Params, state: State, steps: Steps) -> tuple[State, Any]:
            block = self.block or _block(cell, params, steps, key)
            return in_chunks(run, block, params, state, steps, plan.reverse)

        run_all = jax.checkpoint(run_blocks) if self.checkpoint_every else run_blocks
        return in_chunks(run_all, self.checkpoint_every, params, state, Steps.of(xs, key, plan), plan.reverse)


def _block(cell: Cell, params: Params, steps: Steps, key: Array | None) -> int | None:
    """How many steps to take at once, on this machine."""
    sizes = {size for leaf in jax.tree.leaves(steps) for size in leaf.shape}
    if jax.default_backend() != "cpu" or not all(isinstance(size, int) for size in sizes) or steps.length < 2:
        return None  # sizes are symbols where `jax.export` asks for any
    first = jax.tree.map(lambda x: x[:1], steps)
    leaves = jax.tree.leaves(jax.eval_shape(lambda params, first: project(cell, params, first, key), params, first))
    rows = max(leaf.size // leaf.shape[-1] if leaf.ndim > 1 else 1 for leaf in leaves)
    step_bytes = sum(leaf.size * leaf.dtype.itemsize for leaf in leaves)
    if not step_bytes:  # there are no sequences
        return None
    most = max(2**21 // step_bytes, 512 // rows, 1)
    fair = [block for block in range(most, most // 2, -1) if steps.length % block == 0]
    return fair[0] if fair else most


def _one_of(z: Array) -> Array:
    """One step's, though there be no steps."""
    return jnp.concatenate([z, jnp.zeros((1, *z.shape[1:]), z.dtype)])[0]


def _read_by(readout: Any, params: Params, state: State, z: Any) -> list[int]:
    """The numbers of the state's leaves that an output is made of."""
    jaxpr = jax.make_jaxpr(readout)(params, state, z).jaxpr
    atoms = [*jaxpr.outvars, *(atom for eqn in jaxpr.eqns for atom in eqn.invars)]
    first = len(jax.tree.leaves(params))
    variables = jaxpr.invars[first : first + len(jax.tree.leaves(state))]
    return [n for n, variable in enumerate(variables) if any(variable is atom for atom in atoms)]


@dataclass(frozen=True, eq=False)
class _Scan:
    """`scan(weights, state, restart, zs, valid, resets) -> state, states`, all of them lists of leaves."""

    program: Program
    read: list[int]  # which of the states to put out
    reverse: bool
    unroll: int

    def __call__(self, weights: Leaves, state: Leaves, restart: Leaves, zs: Leaves, valid: Any, resets: Any) -> Any:
        @jax.custom_vjp
        def scan(weights, state, restart, zs, valid, resets):
            return self._forward(weights, state, restart, zs, valid, resets, keep=False)[:2]

        def forward(weights, state, restart, zs, valid, resets):
            last, states, (befores, known) = self._forward(weights, state, restart, zs, valid, resets, keep=True)
            own = [z if n in self.program.own else None for n, z in enumerate(zs)]
            return (last, states), (weights, state, restart, own, valid, resets, states, befores, known)

        def backward(saved, cotangents):
            return *self._backward(*saved, *cotangents), None, None

        scan.defvjp(forward, backward)
        return scan(weights, state, restart, zs, valid, resets)

    def _loop(self, *args: Any, reverse: bool) -> Any:
        pays = self.program.remembers and jax.default_backend() == "cpu"
        return (prefetching_scan if pays else jax.lax.scan)(*args, reverse=reverse, unroll=self.unroll)

    def _forward(self, weights, state, restart, zs, valid, resets, keep):
        def body(state, now):
            z, valid, reset = now
            before: list[Any] = []
            known: Leaves = []

            def see(value):
                known.append(value)
                return value

            def step(state, z):
                again = self._output_before(resets)
                before[:] = [None if n in again else x for n, x in enumerate(state)]
                return jax.tree.leaves(self.program.run(weights, state, z, lambda multiply, a, w: multiply(a, w), see))

            after = masked_step(step, state, z, valid, reset, restart)
            return after, ([after[n] for n in self.read], (before, known) if keep else None)

        state, (states, kept) = self._loop(body, state, (zs, valid, resets), reverse=self.reverse)
        return state, states, kept

    def _output_before(self, resets: Any) -> list[int]:
        """The numbers of the states that are an output of the step before: they need not be kept twice."""
        return self.read if resets is None else []

    def _backward(self, weights, state, restart, zs, valid, resets, states, befores, knowns, ct_last, ct_states):
        """Cotangents of weights, first state, restart state and projected inputs."""
        befores = list(befores)
        for n, after in zip(self._output_before(resets), states, strict=False):
            first = state[n][None]
            parts = [after[1:], first] if self.reverse else [first, after[:-1]]
            befores[n] = jnp.concatenate(parts)[: after.shape[0]]  # there may be no steps
        w_others = [weights[n] for n in self.program.others]
        multiplies: list[Product] = []
        # Transposed once, not at every step; but a single row is multiplied by columns as they lie.
        flip = any(ct is not None and any(size != 1 for size in ct.shape[:-1]) for ct in ct_last)
        flipped = [jax.lax.optimization_barrier(w.T) if flip and w.ndim == 2 else w for w in weights]
        unknown_products = zeros(self.program.products)

        def replay(before, z, w_others, unknown_products, known):
            """The step, given all that is not linear in its products: what is left is elementwise."""
            multiplies.clear()
            operands: Leaves = []
            w_known = dict(zip(self.program.others, w_others, strict=True))
            unknown, known = iter(unknown_products), iter(known)

            def product(multiply, a, w):
                multiplies.append(multiply)
                operands.append(a)
                return _unknown(multiply)(a, w, next(unknown))

            merged = [w_known.get(n, w.T if flip and w.ndim == 2 else w) for n, w in enumerate(flipped)]
            after = self.program.run(merged, before, z, product, lambda value: _known(value, next(known)))
            return jax.tree.leaves(after), operands

        def body(carry, now):
            ct_state, ct_restart, ct_others = carry
            z, valid, reset, before, known, ct_out = now
            ct_state = list(ct_state)
            for n, ct in zip(self.read, ct_out, strict=True):
                ct_state[n] = add(ct_state[n], ct)
            ct_after = ct_state if valid is None else where(valid, ct_state, zeros(ct_state))
            z = [zeros(like) if x is None else x for x, like in zip(z, self.program.zs, strict=True)]
            pull, operands = vjp(replay, before, z, w_others, unknown_products, known)
            ct_before, ct_z, ct_w, taps, _ = pull(ct_after)
            if reset is not None:
                dropped = where(reset, ct_before, zeros(ct_before))
                ct_restart = jax.tree.map(lambda total, ct: total + sum_to(ct, total.shape), ct_restart, dropped)
                ct_before = where(reset, zeros(ct_before), ct_before)
            if valid is not None:
                ct_before = add_all(ct_before, where(valid, zeros(ct_state), ct_state))
            out, layout[:] = unique([*before, *ct_z, *taps, *operands])
            return (ct_before, ct_restart, add_all(ct_others, ct_w)), out[len(before) :]

        layout: list[int] = []
        ct_last, ct_states = without_integers(ct_last), without_integers(ct_states)
        carry = (ct_last, zeros(inexact(restart)), zeros(inexact(w_others)))
        xs = (zs, valid, resets, befores, knowns, ct_states)
        (ct_state, ct_restart, ct_others), out = self._loop(body, carry, xs, reverse=not self.reverse)
        stacked = [*befores, *out]
        _, ct_zs, taps, operands = cut([stacked[n] for n in layout], len(befores), len(zs), len(unknown_products))
        ct_weights: list[Any] = [None] * len(weights)
        for n, ct in zip(self.program.others, ct_others, strict=True):
            ct_weights[n] = ct
        for n, multiply, a, tap in zip(self.program.factors, multiplies, operands, taps, strict=True):
            ct_weights[n] = add(ct_weights[n], multiply.pull_w(a, tap, weights[n]))
        return ct_weights, ct_state, ct_restart, ct_zs


class _Projecting(NamedTuple):
    """A cell's `project` whose products have the cheaper backward pass of `Product`."""

    cell: Cell

    def project(self, params: Params, x: Any, key: Any = None) -> Any:
        def project(params: Params, x: Any, key: Any) -> Any:
            return self.cell.project(params, x, key)

        program = Program(project, params, x, key)
        return program.run(program.weights(params), x, key, lambda multiply, a, w: _multiplied(multiply)(a, w))


def _multiplied(multiply: Product) -> Any:
    @jax.custom_vjp
    def product(a, w):
        return multiply(a, w)

    def backward(saved, ct):
        a, w = saved
        return multiply.pull_a(ct, w, a), multiply.pull_w(a[None], ct[None], w)

    product.defvjp(lambda a, w: (multiply(a, w), (a, w)), backward)
    return product


def _unknown(multiply: Product) -> Any:
    """A product whose value nobody needs, given as zeros; the cotangent goes to `a` and, to wait, to the zeros."""

    @jax.custom_vjp
    def product(a, w, value):
        return value

    def backward(saved, ct):
        a, w = saved
        return multiply.pull_a(ct, w, a), None, ct

    product.defvjp(lambda a, w, value: (value, (a, w)), backward)
    return product


@jax.custom_vjp
def _known(computed: Array, known: Array) -> Array:
    """`known`, differentiated as what would have been computed."""
    return known


_known.defvjp(lambda computed, known: (known, None), lambda _, ct: (ct, None))
