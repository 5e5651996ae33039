"""A step's program, open at its products with parameters.

Both a fast backward pass and recurrent dropout must know where a step multiplies something by a
weight. Asking every cell would put means into its equation, so the step is traced once and run again
equation by equation, with the products handed to the caller.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array
from jax.extend.core import ClosedJaxpr, Jaxpr, Literal, jaxpr_as_fun

PRODUCTS = ("dot_general", "conv_general_dilated")
LINEAR = ("add", "slice", "split")  # what is made of products and inputs by these is kept instead of them

CONSTANT, PARAMETER, VARYING = range(3)  # what a value depends on: nothing, parameters only, state or input


class Product:
    """A product of a varying `a` and a parameter `w`, in whichever order the program has them."""

    def __init__(self, run: Callable[..., list[Any]], eqn: Any, swapped: bool):
        self._run, self._swapped = run, swapped
        self._contracted = None  # the axes of a and of w that are summed over, of a plain matrix product
        if eqn.primitive.name == "dot_general":
            contracted, batched = eqn.params["dimension_numbers"]
            if not batched[0] and len(contracted[0]) == 1 and eqn.invars[0 if swapped else 1].aval.ndim == 2:
                self._contracted = [axes[0] for axes in (contracted[::-1] if swapped else contracted)]

    def __call__(self, a: Array, w: Array) -> Array:
        return self._run(w, a)[0] if self._swapped else self._run(a, w)[0]

    def pull_a(self, ct: Array, w: Array, a: Any) -> Array:
        """The cotangent of `a` (given for its shape and dtype)."""
        return jax.linear_transpose(lambda a: self(a, w), a)(ct)[0]

    def pull_w(self, a: Array, ct: Array, w: Any) -> Array:
        """The cotangent of `w` (given for its shape and dtype), `a` and `ct` with an axis of steps in front."""
        if self._contracted is None:
            return jax.linear_transpose(lambda w: jax.vmap(self, (0, None))(a, w), w)(ct)[0]
        # Not JAX's own order of operands, ct first: XLA's CPU compiler would copy the larger of the two.
        axis, w_axis = self._contracted
        a = jnp.moveaxis(a, 1 + axis, -1)
        ct = jnp.moveaxis(ct, 1, -1) if self._swapped else ct
        rows = tuple(range(a.ndim - 1))
        w_ct = jax.lax.dot_general(a, ct, ((rows, rows), ((), ())), preferred_element_type=ct.dtype)
        return (w_ct if w_axis == 0 else w_ct.T).astype(w.dtype)


class Equation(NamedTuple):
    run: Callable[..., list[Any]]
    ins: tuple[int, ...]  # places of the values it reads
    outs: tuple[int, ...]
    depends: int
    product: Product | None
    primitive: str


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
        args = jax.tree.map(jax.typeof, (params, state, z))
        closed, out = jax.make_jaxpr(step, return_shape=True)(*args)
        self._out_tree = jax.tree.structure(out)
        self._values: dict[int, Any] = {}  # constants, by place
        self._depends: list[int] = []
        self._avals: list[Any] = []
        self._equations: list[Equation] = []
        number_params = len(jax.tree.leaves(params))
        kinds = [PARAMETER if n < number_params else VARYING for n in range(len(closed.jaxpr.invars))]
        self._ins = [self._place(kind, var.aval) for kind, var in zip(kinds, closed.jaxpr.invars, strict=True)]
        self._params = self._ins[:number_params]
        self._outs = self._inline(closed, self._ins)
        varying = [e for e in self._equations if e.depends == VARYING]
        read = [p for e in varying for p in e.ins] + self._outs
        self._weights = list(dict.fromkeys(p for p in read if self._depends[p] == PARAMETER))
        self.factors = [self._weights.index(self._factor(e)) for e in varying if e.product]
        self.products = [self._avals[e.outs[0]] for e in varying if e.product]
        others = {p for e in varying if not e.product for p in e.ins} | set(self._outs)
        self.others = [n for n, p in enumerate(self._weights) if p in others]
        states, zs = (
            self._ins[number_params : number_params + len(jax.tree.leaves(state))],
            self._ins[number_params + len(jax.tree.leaves(state)) :],
        )
        self.remembers = any(p in states for e in varying if not e.product for p in e.ins)
        self.zs = [self._avals[p] for p in zs]
        self._kept = self._frontier(varying, zs)
        self.own = [n for n, p in enumerate(zs) if p in self._kept]

    def weights(self, params: Any) -> list[Array]:
        """What the rest of the step needs of the parameters."""
        values = {**self._values, **dict(zip(self._params, jax.tree.leaves(params), strict=True))}
        self._evaluate(values, (CONSTANT, PARAMETER))
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
        varying = dict(zip(self._ins[len(self._params) :], jax.tree.leaves((state, z)), strict=True))
        values = {**self._values, **dict(zip(self._weights, weights, strict=True)), **varying}
        self._evaluate(values, (CONSTANT, VARYING), product, keep)
        return jax.tree.unflatten(self._out_tree, [values[p] for p in self._outs])

    def _factor(self, e: Equation) -> int:
        return next(p for p in e.ins if self._depends[p] == PARAMETER)

    def _place(self, depends: int, aval: Any) -> int:
        self._depends.append(depends)
        self._avals.append(aval)
        return len(self._depends) - 1

    def _constant(self, value: Any) -> int:
        place = self._place(CONSTANT, None)
        self._values[place] = value
        return place

    def _inline(self, closed: ClosedJaxpr, ins: list[int]) -> list[int]:
        """Appends a traced program's equations, those of nested calls of `jit` too."""
        jaxpr = closed.jaxpr
        places = dict(zip(jaxpr.constvars, map(self._constant, closed.consts), strict=True))
        places |= dict(zip(jaxpr.invars, ins, strict=True))

        def place(atom: Any) -> int:
            return self._constant(atom.val) if isinstance(atom, Literal) else places[atom]

        for eqn in jaxpr.eqns:
            read = [place(atom) for atom in eqn.invars]
            if eqn.primitive.name in ("jit", "pjit"):
                outs = self._inline(eqn.params["jaxpr"], read)
            else:
                outs = self._append(eqn, read)
            places |= dict(zip(eqn.outvars, outs, strict=True))
        return [place(atom) for atom in jaxpr.outvars]

    def _append(self, eqn: Any, read: list[int]) -> list[int]:
        depends = max((self._depends[p] for p in read), default=CONSTANT)
        if depends == PARAMETER and (eqn.effects or _grows(eqn)):
            depends = VARYING  # a broadcast bias is better kept small
        operands = sorted(self._depends[p] for p in read)
        run, product = _function(eqn), None
        if eqn.primitive.name in PRODUCTS and operands == [PARAMETER, VARYING]:
            product = Product(run, eqn, swapped=self._depends[read[0]] == PARAMETER)
        outs = tuple(self._place(depends, var.aval) for var in eqn.outvars)
        self._equations.append(Equation(run, tuple(read), outs, depends, product, eqn.primitive.name))
        return list(outs)

    def _frontier(self, varying: list[Equation], zs: list[int]) -> set[int]:
        """Places from which all that is not linear can be computed again."""
        linear = {p for p in zs if jnp.issubdtype(self._avals[p].dtype, jnp.inexact)}
        linear |= {e.outs[0] for e in varying if e.product}
        kept = set(zs) - linear
        inside = []
        for e in varying:
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

    def _evaluate(
        self,
        values: dict[int, Any],
        kinds: tuple[int, ...],
        product: Callable[..., Array] | None = None,
        keep: Callable[[Array], Array] = lambda value: value,
    ) -> None:
        for e in self._equations:
            if e.depends not in kinds:
                continue
            operands = [values[p] for p in e.ins]
            if e.product and product is not None:
                a, w = operands[::-1] if e.ins[0] == self._factor(e) else operands
                outs = [product(e.product, a, w)]
            else:
                outs = e.run(*operands)
            values.update((p, keep(x) if p in self._kept else x) for p, x in zip(e.outs, outs, strict=True))


def _grows(eqn: Any) -> bool:
    read = sum(getattr(atom.aval, "size", 0) for atom in eqn.invars)
    return sum(getattr(var.aval, "size", 0) for var in eqn.outvars) > read


def _function(eqn: Any) -> Callable[..., list[Any]]:
    """One equation as a function of the values it reads, literals included."""
    atoms = {n: atom for n, atom in enumerate(eqn.invars) if not isinstance(atom, Literal)}
    variables = list(dict.fromkeys(atoms.values()))
    first = [next(n for n, atom in atoms.items() if atom is var) for var in variables]
    run = jaxpr_as_fun(ClosedJaxpr(Jaxpr([], variables, eqn.outvars, [eqn], eqn.effects), []))
    return lambda *operands: run(*(operands[n] for n in first))
