"""A cell's step as a traced program whose products with parameters can be replaced.

`Deferred` and `Native` must know where a step multiplies something by a weight, to move that weight's gradient out of
the loop, and so must recurrent dropout. Cells do not declare it: the step is traced once and then run equation by
equation.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from jaxrnn._tracing.equations import DependsOn, Equation, Equations, evaluate
from jaxrnn._tracing.product import Product
from jaxrnn._tracing.unused_rows import equation_ignoring_unused

# Results of these on products, inputs and parameters can be saved in place of the products and inputs.
LINEAR = ("add", "reshape", "slice", "split")

Multiply = Callable[[Product, Array, Array], Array]


def _multiply(product: Product, a: Array, w: Array) -> Array:
    return product(a, w)


class TracedStep:
    """`step(params, state, z)`, traced and split into what parameters determine once and what runs at every step.

    `weights(params)` computes everything that depends on parameters only. `run(weights, state, z)` is the rest of the
    step. `replay(...)` is the same without recomputing what `run` has saved: to replay a step without its products it
    is enough to save the values, made of `z` and of products by sums and slices, that nonlinear operations read.

    Attributes:
      products: The products of something that varies with a parameter, in the order in which they run.
      weight_of_product: For each product, the index of its parameter among the weights.
      other_weights: The indices of the weights that operations other than products read.
      reads_state_elementwise: Whether operations other than products read the state.
      z_avals: The shape and dtype of each leaf of `z`.
      out_shapes: The shape of each leaf of the state after the step.
      z_kept: The indices of the leaves of `z` that must be kept as they are to replay the step.
    """

    def __init__(self, step: Callable[..., Any], params: Any, state: Any, z: Any):
        traced = Equations(step, *jax.tree.map(jax.typeof, (params, state, z)))
        avals, self._constants = traced.avals, traced.constants
        self._outs, self._out_tree = traced.outs, traced.out_tree
        self._params, states, zs = traced.ins
        self._ins = [*states, *zs]
        of_places, of_equations = _dependencies(traced)

        self._once: list[Equation] = []  # equations that parameters determine
        self._in_loop: list[tuple[Equation, Product | None]] = []
        for e, depends_on in zip(traced.equations, of_equations, strict=True):
            if not depends_on.varies:
                self._once.append(e)
            if depends_on != DependsOn.PARAMETERS:  # constants are cheap and belong to both
                self._in_loop.append((e, Product.of(e, of_places, avals)))

        read_elementwise = {p for e, product in self._in_loop if not product for p in e.ins}
        read = [p for e, _ in self._in_loop for p in e.ins] + self._outs
        self._weights = list(dict.fromkeys(p for p in read if of_places[p] == DependsOn.PARAMETERS))
        self.products = [product for _, product in self._in_loop if product]
        self.weight_of_product = [self._weights.index(product.w_place) for product in self.products]
        self.other_weights = [n for n, p in enumerate(self._weights) if p in read_elementwise.union(self._outs)]
        self.reads_state_elementwise = not read_elementwise.isdisjoint(states)
        self.z_avals = [avals[p] for p in zs]
        self.out_shapes = [(traced.constants[p] if avals[p] is None else avals[p]).shape for p in traced.outs]
        self._saved = self._places_to_save(zs, [p for p, kind in enumerate(of_places) if not kind.varies])
        self.z_kept = [n for n, p in enumerate(zs) if p in self._saved]

    def weights(self, params: Any) -> list[Array]:
        """Returns what the rest of the step needs of the parameters."""
        values = {**self._constants, **dict(zip(self._params, jax.tree.leaves(params), strict=True))}
        evaluate(self._once, values)
        return [values[p] for p in self._weights]

    def run(self, weights: list[Array], state: Any, z: Any, multiply: Multiply = _multiply) -> tuple[Any, list[Array]]:
        """Runs the step.

        Args:
          weights: What `weights` returned.
          state: The state before the step, or its leaves.
          z: The projected input, or its leaves.
          multiply: Called in place of each product as `multiply(product, a, w)`.

        Returns:
          The state after the step, and the values to save for `replay`.
        """
        saved = []

        def save(value: Array) -> Array:
            saved.append(value)
            return value

        return self._run(weights, state, z, multiply, save), saved

    def replay(self, weights: list[Array], state: Any, z: Any, saved: list[Array], multiply: Multiply) -> Any:
        """Runs the step again, with the values that `run` saved in place of the products' values.

        Derivatives pass through each saved value to what it was computed from.
        """
        values = iter(saved)
        return self._run(
            weights, state, z, multiply, lambda computed: _substitute(computed, next(values).astype(computed.dtype))
        )

    def _run(self, weights: list[Array], state: Any, z: Any, multiply: Multiply, at_saved: Any) -> Any:
        values = {**self._constants, **dict(zip(self._weights, weights, strict=True))}
        values |= dict(zip(self._ins, jax.tree.leaves((state, z)), strict=True))
        for e, product in self._in_loop:
            operands = [values[p] for p in e.ins]
            run = equation_ignoring_unused(e)
            outs = [multiply(product, *product.operands(*operands))] if product else run(*operands)
            values.update((p, at_saved(x) if p in self._saved else x) for p, x in zip(e.outs, outs, strict=True))
        return jax.tree.unflatten(self._out_tree, [values[p] for p in self._outs])

    def _places_to_save(self, zs: list[int], fixed: list[int]) -> set[int]:
        """Returns the places from which everything nonlinear can be computed again without a product.

        Args:
          zs: The places of the inputs.
          fixed: The places that are the same at every step.
        """
        known = set(fixed)
        linear = {p for p, aval in zip(zs, self.z_avals, strict=True) if jnp.issubdtype(aval.dtype, jnp.inexact)}
        linear |= {e.outs[0] for e, product in self._in_loop if product}
        saved = set(zs) - linear
        linear_equations = []
        for e, _ in self._in_loop:
            if known.issuperset(e.ins):  # such as a parameter that is broadcast in the loop
                known.update(e.outs)
            elif e.primitive in LINEAR and linear.union(known).issuperset(e.ins):
                linear.update(e.outs)
                linear_equations.append(e)
            else:
                saved.update(linear.intersection(e.ins))
        saved.update(linear.intersection(self._outs))
        for e in reversed(linear_equations):
            if e.primitive == "split" and saved.issuperset(e.outs):  # one large array instead of its parts
                saved = saved.difference(e.outs) | {e.ins[0]}
        return saved


@jax.custom_vjp
def _substitute(computed: Array, saved: Array) -> Array:
    """Returns `saved`, with the derivative of what would have been computed."""
    return saved


_substitute.defvjp(lambda computed, saved: (saved, None), lambda _, ct: (ct, None))


def _dependencies(traced: Equations) -> tuple[list[DependsOn], list[DependsOn]]:
    """Returns what places and equations of a step depend on, as `TracedStep` sorts them.

    Two kinds of equations stay in the loop although parameters alone determine them: those with effects, and those
    that only enlarge a parameter just before the loop reads it, such as a broadcast bias.
    """

    def adjust(e: Equation, depends_on: DependsOn) -> DependsOn:
        return DependsOn.STATE if depends_on == DependsOn.PARAMETERS and e.effects else depends_on

    kinds = (DependsOn.PARAMETERS, DependsOn.STATE, DependsOn.INPUT)
    of_places, of_equations = traced.dependencies(kinds, adjust)
    read_once = {
        p
        for e, depends_on in zip(traced.equations, of_equations, strict=True)
        if depends_on == DependsOn.PARAMETERS
        for p in e.ins
    }
    read_once.update(traced.outs)
    for n, e in reversed([*enumerate(traced.equations)]):
        if of_equations[n] == DependsOn.PARAMETERS and e.grows and read_once.isdisjoint(e.outs):
            of_equations[n] = DependsOn.STATE
            for p in e.outs:
                of_places[p] = DependsOn.STATE
    return of_places, of_equations
