"""A step's program, open at its products with parameters.

Both a fast backward pass and recurrent dropout must know where a step multiplies something by a
weight. Asking every cell would put means into its equation, so the step is traced once and run again
equation by equation, with the products handed to the caller.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from jaxrnn.convolution import is_plain, pull_images, pull_kernel
from jaxrnn.equations import Equation, Equations, evaluate

PRODUCTS = ("dot_general", "conv_general_dilated")
LINEAR = ("add", "reshape", "slice", "split")  # what is made of products and inputs by these is kept instead of them

CONSTANT, PARAMETER, VARYING = range(3)  # what a value depends on: nothing, parameters only, state or input


class Product:
    """A product of a varying `a` and a parameter `w`, in whichever order the program has them."""

    def __init__(self, e: Equation, w: Any, swapped: bool):
        self.w = e.ins[0 if swapped else 1]  # its place
        self._run, self._swapped = e.run, swapped
        self._convolution = None  # how, of a plain one on a CPU
        if e.primitive == "conv_general_dilated" and not swapped and is_plain(e.params):
            self._convolution = e.params if jax.default_backend() == "cpu" else None
        self._contracted = None  # the axes of a and of w that are summed over, of a plain matrix product
        if e.primitive == "dot_general":
            contracted, batched = e.params["dimension_numbers"]
            if not batched[0] and len(contracted[0]) == 1 and w.ndim == 2:
                self._contracted = [axes[0] for axes in (contracted[::-1] if swapped else contracted)]

    def __call__(self, a: Array, w: Array) -> Array:
        return self._run(w, a)[0] if self._swapped else self._run(a, w)[0]

    def operands(self, first: Array, second: Array) -> tuple[Array, Array]:
        """`a` and `w` of what the program has in its order."""
        return (second, first) if self._swapped else (first, second)

    def pull_a(self, ct: Array, w: Array, a: Any) -> Array:
        """The cotangent of `a` (given for its shape and dtype)."""
        if self._convolution is not None:
            return pull_images(self._convolution, ct, w, a)
        return jax.linear_transpose(lambda a: self(a, w), a)(ct)[0]

    def pull_w(self, a: Array, ct: Array, w: Any) -> Array:
        """The cotangent of `w` (given for its shape and dtype), `a` and `ct` with an axis of steps in front."""
        if self._convolution is not None:
            return pull_kernel(self._convolution, a, ct, w)
        if self._contracted is None:
            return jax.linear_transpose(lambda w: jax.vmap(self, (0, None))(a, w), w)(ct)[0]
        # Not JAX's own order of operands, ct first: XLA's CPU compiler would copy the larger of the two.
        axis, w_axis = self._contracted
        a = jnp.moveaxis(a, 1 + axis, -1)
        ct = jnp.moveaxis(ct, 1, -1) if self._swapped else ct
        rows = tuple(range(a.ndim - 1))
        w_ct = jax.lax.dot_general(a, ct, ((rows, rows), ((), ())), preferred_element_type=ct.dtype)
        return (w_ct if w_axis == 0 else w_ct.T).astype(w.dtype)


class Program:
    """`step(params, state, z)` as a list of equations.

    `weights(params)` computes, once, all that depends on parameters only; `run(weights, state, z, product)`
    is the rest of the step, calling `product(multiply, a, w)` for each product of a varying `a` with a
    parameter `w`, where `multiply`, a `Product`, gives its value as `multiply(a, w)`.

    To run a step again without its products, little must be known: of `z` and the products, or what
    sums and slices make of them, that which something else reads. `run` shows these values to `keep`, in order,
    and goes on with what it returns; leaves of `z` that must be known as they are, `own`, are not shown.

    Attributes:
      factors: for each product, in order, the number of its `w` among the weights.
      products: the shape and dtype of each product.
      others: the numbers of the weights that are read by something else than products.
      remembers: whether the state is read by something else than products.
      zs: the shape and dtype of each leaf of `z`.
      own: the numbers of the leaves of `z` that something else than sums and slices reads.
    """

    def __init__(self, step: Callable[..., Any], params: Any, state: Any, z: Any):
        traced = Equations(step, *jax.tree.map(jax.typeof, (params, state, z)))
        avals, self._constants = traced.avals, traced.constants
        self._outs, self._out_tree = traced.outs, traced.out_tree
        self._params, states, zs = traced.ins
        self._ins = [*states, *zs]
        places, equations = _kept_small(traced, *traced.levels((PARAMETER, VARYING, VARYING), _kept_apart))
        self._fixed = [e for e, level in zip(traced.equations, equations, strict=True) if level < VARYING]
        self._varying = [
            (e, _product(e, places, avals))
            for e, level in zip(traced.equations, equations, strict=True)
            if level in (CONSTANT, VARYING)
        ]
        products = [product for _, product in self._varying if product]
        plain = {p for e, product in self._varying if not product for p in e.ins}
        read = [p for e, _ in self._varying for p in e.ins] + self._outs
        self._weights = list(dict.fromkeys(p for p in read if places[p] == PARAMETER))
        self.factors = [self._weights.index(product.w) for product in products]
        self.products = [avals[e.outs[0]] for e, product in self._varying if product]
        self.others = [n for n, p in enumerate(self._weights) if p in plain.union(self._outs)]
        self.remembers = not plain.isdisjoint(states)
        self.zs = [avals[p] for p in zs]
        self._kept = self._frontier(zs)
        self.own = [n for n, p in enumerate(zs) if p in self._kept]

    def weights(self, params: Any) -> list[Array]:
        """What the rest of the step needs of the parameters."""
        values = {**self._constants, **dict(zip(self._params, jax.tree.leaves(params), strict=True))}
        evaluate(self._fixed, values)
        return [values[p] for p in self._weights]

    def run(
        self,
        weights: list[Array],
        state: Any,
        z: Any,
        product: Callable[..., Array],
        keep: Callable[[Array], Array] = lambda value: value,
    ) -> Any:
        """The step, given `weights(params)`."""
        values = {**self._constants, **dict(zip(self._weights, weights, strict=True))}
        values |= dict(zip(self._ins, jax.tree.leaves((state, z)), strict=True))
        for e, multiply in self._varying:
            operands = [values[p] for p in e.ins]
            outs = [product(multiply, *multiply.operands(*operands))] if multiply else e.run(*operands)
            values.update((p, keep(x) if p in self._kept else x) for p, x in zip(e.outs, outs, strict=True))
        return jax.tree.unflatten(self._out_tree, [values[p] for p in self._outs])

    def _frontier(self, zs: list[int]) -> set[int]:
        """Places from which all that is not linear can be computed again."""
        linear = {p for p, aval in zip(zs, self.zs, strict=True) if jnp.issubdtype(aval.dtype, jnp.inexact)}
        linear |= {e.outs[0] for e, product in self._varying if product}
        kept = set(zs) - linear
        inside = []
        for e, _ in self._varying:
            if e.primitive in LINEAR and linear.issuperset(e.ins):
                linear.update(e.outs)
                inside.append(e)
            else:
                kept.update(linear.intersection(e.ins))
        kept.update(linear.intersection(self._outs))
        for e in reversed(inside):
            if e.primitive == "split" and kept.issuperset(e.outs):  # one large array rather than its parts
                kept = kept.difference(e.outs) | {e.ins[0]}
        return kept


def _kept_apart(e: Equation, level: int) -> int:
    return VARYING if level == PARAMETER and e.effects else level


def _kept_small(traced: Equations, places: list[int], equations: list[int]) -> tuple[list[int], list[int]]:
    """The levels, but what makes parameters larger just before the rest of the step reads them, such as a bias that is
    broadcast, is left to it."""
    read = {p for e, level in zip(traced.equations, equations, strict=True) if level == PARAMETER for p in e.ins}
    read.update(traced.outs)
    for n, e in reversed([*enumerate(traced.equations)]):
        if equations[n] == PARAMETER and e.grows and read.isdisjoint(e.outs):
            equations[n] = VARYING
            for p in e.outs:
                places[p] = VARYING
    return places, equations


def _product(e: Equation, levels: list[int], avals: list[Any]) -> Product | None:
    operands = [levels[p] for p in e.ins]
    if e.primitive not in PRODUCTS or sorted(operands) != [PARAMETER, VARYING]:
        return None
    swapped = operands[0] == PARAMETER
    return Product(e, avals[e.ins[0 if swapped else 1]], swapped)
