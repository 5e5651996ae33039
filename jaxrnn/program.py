"""A step's program, open at its products with parameters.

Both a fast backward pass and recurrent dropout must know where a step multiplies something by a
weight. Asking every cell would put means into its equation, so the step is traced once and run again
equation by equation, with the products handed to the caller.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array
from jax.extend.core import ClosedJaxpr, Jaxpr, Literal, jaxpr_as_fun

PRODUCTS = ("dot_general", "conv_general_dilated")

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
    is_sum: bool  # of two arrays of one shape and dtype


class Program:
    """`step(params, state, z)` as a list of equations.

    `weights(params)` computes, once, all that depends on parameters only; `run(weights, state, z, product)`
    is the rest of the step, calling `product(multiply, a, w)` for each product of a varying `a` with a
    parameter `w`, where `multiply`, a `Product`, gives its value as `multiply(a, w)`. With `join_sums`, a leaf of `z`
    that is read for nothing but to be added to a product comes with it, `product(multiply, a, w, addend)`.

    Attributes:
      factors: for each product, in order, the number of its `w` among the weights.
      others: the numbers of the weights that are read by something else than products.
      addends: for each product the number of the leaf of `z` that comes with it, or None.
    """

    def __init__(self, step: Callable[..., Any], params: Any, state: Any, z: Any, join_sums: bool = False):
        args = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), (params, state, z))
        closed, out = jax.make_jaxpr(step, return_shape=True)(*args)
        self._out_tree = jax.tree.structure(out)
        self._values: dict[int, Any] = {}  # constants, by place
        self._depends: list[int] = []
        self._equations: list[Equation] = []
        number_params = len(jax.tree.leaves(params))
        self._ins = [self._place(PARAMETER if n < number_params else VARYING) for n in range(len(closed.jaxpr.invars))]
        self._params = self._ins[:number_params]
        self._outs = self._inline(closed, self._ins)
        zs = self._ins[len(self._ins) - len(jax.tree.leaves(z)) :]
        if join_sums:
            self._join_sums(zs)
        read = [p for e in self._equations if e.depends == VARYING for p in e.ins] + self._outs
        self._weights = list(dict.fromkeys(p for p in read if self._depends[p] == PARAMETER))
        varying = [e for e in self._equations if e.depends == VARYING]
        self.factors = [self._weights.index(self._factor(e)) for e in varying if e.product]
        self.addends = [zs.index(e.ins[2]) if len(e.ins) > 2 else None for e in varying if e.product]
        others = {p for e in varying if not e.product for p in e.ins} | set(self._outs)
        self.others = [n for n, p in enumerate(self._weights) if p in others]

    def weights(self, params: Any) -> list[Array]:
        """What the rest of the step needs of the parameters."""
        values = {**self._values, **dict(zip(self._params, jax.tree.leaves(params), strict=True))}
        self._evaluate(values, (CONSTANT, PARAMETER), None)
        return [values[p] for p in self._weights]

    def run(self, weights: list[Array], state: Any, z: Any, product: Callable[..., Array]) -> Any:
        """The step, given `weights(params)`."""
        varying = dict(zip(self._ins[len(self._params) :], jax.tree.leaves((state, z)), strict=True))
        values = {**self._values, **dict(zip(self._weights, weights, strict=True)), **varying}
        self._evaluate(values, (CONSTANT, VARYING), product)
        return jax.tree.unflatten(self._out_tree, [values[p] for p in self._outs])

    def _factor(self, e: Equation) -> int:
        return next(p for p in e.ins if self._depends[p] == PARAMETER)

    def _place(self, depends: int) -> int:
        self._depends.append(depends)
        return len(self._depends) - 1

    def _constant(self, value: Any) -> int:
        place = self._place(CONSTANT)
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
        outs = tuple(self._place(depends) for _ in eqn.outvars)
        is_sum = eqn.primitive.name == "add" and eqn.invars[0].aval == eqn.invars[1].aval
        self._equations.append(Equation(run, tuple(read), outs, depends, product, is_sum))
        return list(outs)

    def _join_sums(self, zs: list[int]) -> None:
        """Makes one equation of a product and the sum with a leaf of `z`, where nothing else reads the two."""
        reads = Counter([p for e in self._equations for p in e.ins] + self._outs)
        products = {e.outs[0]: e for e in self._equations if e.product}
        joined: dict[int, Equation] = {}  # by the place of the product
        for e in filter(lambda e: e.is_sum, self._equations):
            for product, addend in (e.ins, e.ins[::-1]):
                if product in products and addend in zs and reads[product] == reads[addend] == 1:
                    joined[product] = products[product]._replace(ins=(*products[product].ins, addend), outs=e.outs)
        sums = {e.outs for e in joined.values()}
        equations = [e for e in self._equations if e.outs not in sums]
        self._equations = [joined.get(e.outs[0], e) if e.outs else e for e in equations]

    def _evaluate(self, values: dict[int, Any], kinds: tuple[int, ...], product: Callable[..., Array] | None) -> None:
        for e in self._equations:
            if e.depends not in kinds:
                continue
            operands = [values[p] for p in e.ins]
            if e.product and product is not None:
                first, second, *addend = operands
                a, w = (second, first) if e.ins[0] == self._factor(e) else (first, second)
                outs = [product(e.product, a, w, *addend)]
            else:
                outs = e.run(*operands)
            values.update(zip(e.outs, outs, strict=True))


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
