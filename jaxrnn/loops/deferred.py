"""`Deferred`: a scan whose backward pass keeps the gradients of the weights out of the loop."""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from jaxrnn import _check as check
from jaxrnn._tracing import Product, TracedStep, widen
from jaxrnn.layer import Cell, Loop, Params, State, Steps
from jaxrnn.loops._any_length import scan_any_length
from jaxrnn.loops._chunks import run_in_checkpoints, run_in_chunks
from jaxrnn.loops._cotangents import sum_to
from jaxrnn.loops._deferred_gradient import DeferredGradient, OfReadout, run_with
from jaxrnn.loops._prefetch import prefetching_scan
from jaxrnn.loops._reverse_only import reverse_only
from jaxrnn.loops._stacking import stacking_scan


@dataclass(frozen=True)
class Deferred(Loop):
    """Runs a scan with its own backward pass; the default loop where `Native` is not used.

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
            zs = steps.project(ProjectingCell(cell), params)
            z = jax.eval_shape(lambda zs: jax.tree.map(_first_or_zeros, zs), zs)
            step = TracedStep(cell.step, params, state, z)
            # Weights are transposed once and not at every step; a single row is multiplied by their columns in place.
            has_rows = any(size != 1 for leaf in jax.tree.leaves(state) for size in leaf.shape[:-1])
            run = partial(_run_scan, step=step, length=steps.length, unroll=self.unroll)
            leaves_read = OfReadout(cell.readout, params, state, z).leaves_read
            loop = DeferredGradient(step, leaves_read, steps.reverse, run, transpose=has_rows)
            return run_with(loop, cell, params, steps, state, zs, zs)

        def run_blocks(params: Params, state: State, steps: Steps) -> tuple[State, Any]:
            return run_in_chunks(run_block, self.block or _block_size(cell, params, steps), params, state, steps)

        params, state, xs = reverse_only((params, state, steps.xs))
        steps = steps.replace_varying((xs, *steps.varying[1:]))
        return run_in_checkpoints(run_blocks, self.checkpoint_every, params, state, steps)


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


def _run_scan(
    body: Any,
    shared: Any,
    carry: Any,
    totals: Any,
    xs: Any,
    *,
    reverse: bool,
    step: TracedStep,
    length: Any,
    unroll: int,
) -> Any:
    """Runs `carry, increments, y = body(shared, carry, x)` by `lax.scan`, and sums the increments."""

    def with_totals(_: None, carry_and_totals: Any, x: Any) -> Any:
        carry, totals = carry_and_totals
        carry, increments, y = body(shared, carry, x)
        totals = jax.tree.map(lambda total, ct: total + sum_to(ct.astype(total.dtype), total.shape), totals, increments)
        return (carry, totals), y

    prefetch = step.reads_state_elementwise and jax.default_backend() == "cpu"
    scan = prefetching_scan if prefetch else scan_any_length
    how: Any = {"length": length, "reverse": reverse, "unroll": unroll}
    (carry, totals), ys = stacking_scan(with_totals, None, (carry, totals), xs, scan=scan, **how)
    return carry, totals, ys


class ProjectingCell(NamedTuple):
    """A cell's `project`, whose products have the cheaper cotangents of `Product`."""

    cell: Cell

    def project(self, params: Params, x: Any, key: Any = None) -> Any:
        def project(params: Params, x: Any, key: Any) -> Any:
            return self.cell.project(params, x, key)

        traced = TracedStep(project, params, x, key)
        multiplied = _multiplied if key is None else _multiplied_under_vmap
        z, _ = traced.run(traced.weights(params), x, key, lambda product, a, w: multiplied(product)(a, w))
        return z


def _multiplied(product: Product) -> Any:
    """Returns a product with its own cotangents."""
    return _with_cotangents(product, product, product.pull_a, lambda a, ct, w: product.pull_w(a[None], ct[None], w))


def _multiplied_under_vmap(product: Product) -> Any:
    """Returns a product with its own cotangents, to be mapped over the steps by `jax.vmap`.

    `jax.vmap` of a custom derivative computes a gradient of the weight for each step and sums them. Here the gradient
    remains one large product.
    """
    multiply = jax.custom_batching.custom_vmap(lambda a, w: product(a, w))
    multiply_all, pull_a = jax.vmap(product, (0, None)), jax.vmap(product.pull_a, (0, None, 0))

    @multiply.def_vmap
    def run(size: int, is_mapped: Any, a: Array, w: Array) -> tuple[Array, bool]:
        return _with_cotangents(product, multiply_all, pull_a, product.pull_w)(a, w), True

    return multiply


def _with_cotangents(product: Product, multiply: Any, pull_a: Any, pull_w: Any) -> Any:
    """Returns `multiply(a, w)` with the cotangents `pull_a(ct, w, a)` and `pull_w(a, ct, w)`."""
    run = jax.custom_vjp(multiply)

    def forward(a: Array, w: Array) -> tuple[Array, tuple[Array, Array]]:
        return multiply(a, w), (widen(a), w)

    def backward(saved: tuple[Array, Array], ct: Array) -> tuple[Array, Array]:
        a, w = saved
        a = a.astype(product.a_dtype)
        return pull_a(ct, w, a), pull_w(a, ct, w)

    run.defvjp(forward, backward)
    return run
