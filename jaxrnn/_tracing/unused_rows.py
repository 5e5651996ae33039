"""Derivatives of a traced function that ignore unused values, even if they are NaN.

A cotangent of zero means that a value is not used: a reset cuts it off, or the loss does not read it. JAX still
multiplies the cotangent by derivatives, and zero times NaN is NaN. Where a parameter's gradient is a sum over steps and
sequences, a single NaN spoils it for all of them.

Here the derivatives of a function are those of JAX, except that a cotangent of zero, in a product or an elementwise
operation, is not multiplied by NaN or infinity. Finite numbers are multiplied even by zero, so that the derivatives can
be differentiated again: a cotangent may also be zero because the loss is at its minimum.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.custom_derivatives import SymbolicZero
from jax.extend.core import Jaxpr, Primitive
from jax.interpreters import ad, batching, mlir

from jaxrnn._tracing.equations import DependsOn, Equation, Equations
from jaxrnn._tracing.matrix_product import MatrixProduct
from jaxrnn._tracing.precision import widen

PRODUCTS = ("dot_general", "conv_general_dilated")
# Primitives whose derivative multiplies each element of a tangent by a function of the same element of the inputs.
ELEMENTWISE = frozenset(
    (
        *("mul", "div", "rem", "pow", "integer_pow", "square", "sqrt", "rsqrt", "cbrt", "abs", "max", "min", "clamp"),
        *("exp", "exp2", "expm1", "log", "log1p", "logistic", "tanh", "sinh", "cosh", "asinh", "acosh", "atanh"),
        *("sin", "cos", "tan", "asin", "acos", "atan", "atan2", "erf", "erfc", "erf_inv", "lgamma", "digamma"),
    )
)
# Those of them that have a complex derivative.
HOLOMORPHIC = ELEMENTWISE - {"abs", "max", "min", "clamp"}
# Other primitives that an elementwise function may contain.
HARMLESS = frozenset(
    (
        *("add", "add_any", "sub", "neg", "select_n", "convert_element_type", "copy", "stop_gradient", "sign", "floor"),
        *("eq", "ne", "lt", "le", "gt", "ge", "and", "or", "not", "is_finite", "nextafter", "real", "imag", "conj"),
        *("pvary", "pcast"),
    )
)


def ignoring_unused(function: Callable[..., Any]) -> Callable[..., Any]:
    """Returns `function(params, *rows)` with derivatives that ignore unused rows.

    `rows` are pytrees of arrays whose leading axes are batch axes, such as states and inputs. Where the cotangent of
    the result is zero, they affect neither the cotangents of `params` nor those of other rows.
    """

    @jax.custom_jvp
    def run(params: Any, *rows: Any) -> Any:
        return function(params, *rows)

    def derivative(primals: tuple[Any, ...], tangents: tuple[Any, ...]) -> tuple[Any, Any]:
        traced = Equations(function, *jax.tree.map(jax.typeof, primals))
        places = [p for ins in traced.ins for p in ins]
        values = {**traced.constants, **dict(zip(places, jax.tree.leaves(primals), strict=True))}
        slopes = dict(zip(places, map(_or_none, jax.tree.leaves(tangents)), strict=True))
        kinds = (DependsOn.PARAMETERS, *(DependsOn.INPUT for _ in primals[1:]))
        of_places, _ = traced.dependencies(kinds)
        for e in traced.equations:
            varies = [of_places[p].varies for p in e.ins]
            ins, in_slopes = [values[p] for p in e.ins], [slopes.get(p) for p in e.ins]
            values.update(zip(e.outs, e.run(*ins), strict=True))
            slopes.update(zip(e.outs, _differentiate(e, ins, in_slopes, varies), strict=True))
        outs = [values[p] for p in traced.outs]
        out_slopes = [_full(x, slopes.get(p)) for x, p in zip(outs, traced.outs, strict=True)]
        return traced.out_tree.unflatten(outs), traced.out_tree.unflatten(out_slopes)

    run.defjvp(derivative, symbolic_zeros=True)
    return run


def equation_ignoring_unused(e: Equation) -> Callable[..., list[Any]]:
    """Returns `e.run` with derivatives that ignore unused values, given that all of its inputs have rows."""
    if not (e.primitive in PRODUCTS or _is_elementwise(e)):
        return e.run

    @jax.custom_jvp
    def run(*ins: Any) -> list[Any]:
        return e.run(*ins)

    def derivative(primals: tuple[Any, ...], tangents: tuple[Any, ...]) -> tuple[Any, Any]:
        outs = e.run(*primals)
        slopes = _differentiate(e, list(primals), [_or_none(t) for t in tangents], [True] * len(primals))
        return outs, [_full(x, slope) for x, slope in zip(outs, slopes, strict=True)]

    run.defjvp(derivative, symbolic_zeros=True)
    return run


def keep_used_rows(e: Equation, operand: int, a: Array, ct: Array) -> Array:
    """Sets NaN and infinity to zero in those rows of a product's operand from which only unused rows are computed.

    Args:
      e: The product.
      operand: Which operand `a` is, 0 or 1.
      a: The operand.
      ct: The cotangent of the product, zero where it is not used.
    """
    if e.primitive == "conv_general_dilated":
        numbers = e.params["dimension_numbers"]
        if operand == 1:  # a kernel that varies has no rows
            return a
        mine, axes_of_ct = [numbers.lhs_spec[0]], [numbers.out_spec[0]]
    else:
        contracted, batched = e.params["dimension_numbers"]
        free = [n for n in range(a.ndim) if n not in (*contracted[operand], *batched[operand])]
        first = ct.ndim - len(free) if operand else len(batched[operand])
        mine = [*batched[operand], *free]
        axes_of_ct = [*range(len(batched[operand])), *range(first, first + len(free))]
    used = (ct != 0).any(axis=[n for n in range(ct.ndim) if n not in axes_of_ct])
    used = jnp.transpose(used, sorted(range(len(mine)), key=mine.__getitem__))
    used = jnp.expand_dims(used, [n for n in range(a.ndim) if n not in mine])
    return jnp.where(used | jnp.isfinite(a), a, 0)


def _or_none(tangent: Any) -> Any:
    return None if isinstance(tangent, SymbolicZero) or tangent.dtype == jax.dtypes.float0 else tangent


def _full(x: Any, tangent: Any) -> Any:
    """Returns the tangent of a value, which is zero if it is None."""
    if tangent is not None:
        return tangent
    inexact = jnp.issubdtype(jnp.result_type(x), jnp.inexact)
    return jnp.zeros_like(x) if inexact else np.zeros(jnp.shape(x), jax.dtypes.float0)


def _differentiate(e: Equation, ins: list[Any], tangents: list[Any], varies: list[bool]) -> list[Any]:
    """Returns the tangents of the results of an equation; None means zero."""
    moving = [n for n, t in enumerate(tangents) if t is not None]
    if not moving:
        return [None] * len(e.outs)

    def run(*moved: Any) -> list[Any]:
        operands = list(ins)
        for n, x in zip(moving, moved, strict=True):
            operands[n] = x
        return e.run(*operands)

    if any(varies) and e.primitive in PRODUCTS:
        changes = []
        for n in moving:
            other = 1 - n
            matrix = MatrixProduct.of(e, n, ins[other].ndim, tangents[n].ndim)
            product = _Product(e, tangent_first=n == 0, a_dtype=ins[other].dtype, matrix=matrix)
            read = partial(_read_where_used.bind, product=product) if varies[other] else product.multiply
            changes.append(read(widen(ins[other]), tangents[n]))
    elif any(varies) and _is_elementwise(e):
        changes = []
        for n in moving:
            for direction, t in _directions(e, ins[n], tangents[n]):
                _, (factor,) = jax.jvp(lambda x, n=n: e.run(*ins[:n], x, *ins[n + 1 :]), (ins[n],), (direction,))
                t = jnp.broadcast_to(t, factor.shape).astype(factor.dtype)
                changes.append(_read_where_used.bind(widen(factor), t, product=_times))
    else:
        _, slopes = jax.jvp(run, [ins[n] for n in moving], [tangents[n] for n in moving])
        return [_or_none(t) for t in slopes]
    return [sum(changes[1:], changes[0])]


def _directions(e: Equation, x: Array, t: Array) -> list[tuple[Array, Array]]:
    """Returns directions in which to differentiate an elementwise operation, and the tangent's component in each.

    A complex number may move in two directions, unless the operation is holomorphic.
    """
    one = jnp.ones_like(x)
    if not jnp.iscomplexobj(x) or e.primitive in HOLOMORPHIC:
        return [(one, t)]
    return [(one, t.real), (1j * one, t.imag)]


def _is_elementwise(e: Equation) -> bool:
    if e.primitive == "custom_jvp_call":
        return len(e.outs) == 1 and _all_elementwise(e.params["call_jaxpr"].jaxpr) and _has_elementwise_rule(e)
    return e.primitive in ELEMENTWISE


def _has_elementwise_rule(e: Equation) -> bool:
    """Returns whether the user's derivative of an elementwise function is elementwise, too.

    A function without a derivative is not an error here, because nothing may need its derivative.
    """
    avals = [var.aval for var in e.params["call_jaxpr"].jaxpr.invars]
    moving = [n for n, aval in enumerate(avals) if jnp.issubdtype(aval.dtype, jnp.inexact)]

    def differentiate(ins: list[Any], tangents: list[Any]) -> Any:
        def run(*moved: Any) -> list[Any]:
            operands = list(ins)
            for n, x in zip(moving, moved, strict=True):
                operands[n] = x
            return e.run(*operands)

        return jax.jvp(run, [ins[n] for n in moving], tangents)[1]

    try:
        derivative = jax.make_jaxpr(differentiate)(avals, [avals[n] for n in moving])
    except Exception:  # the same error is raised if something differentiates the function
        return False
    return _all_elementwise(derivative.jaxpr)


def _all_elementwise(jaxpr: Jaxpr) -> bool:
    def is_elementwise(eqn: Any) -> bool:
        if eqn.primitive.name in ("jit", "pjit"):
            return _all_elementwise(eqn.params["jaxpr"].jaxpr)
        if eqn.primitive.name == "custom_jvp_call":  # a derivative may read the function's value
            return _all_elementwise(eqn.params["call_jaxpr"].jaxpr)
        if eqn.primitive.name == "broadcast_in_dim":
            return eqn.invars[0].aval.shape == ()
        return eqn.primitive.name in ELEMENTWISE | HARMLESS

    return all(map(is_elementwise, jaxpr.eqns))


class _Times:
    """A factor times a tangent, element by element."""

    matrix = None

    def multiply(self, factor: Array, t: Array) -> Array:
        return factor.astype(t.dtype) * t

    def keep_used(self, factor: Array, ct: Array) -> Array:
        return jnp.where((ct != 0) | jnp.isfinite(factor), factor, 0)

    multiply_kept = multiply


_times = _Times()


@dataclass(frozen=True, eq=False)
class _Product:
    """A product of matrices or a convolution, one operand of which is a tangent."""

    e: Equation
    tangent_first: bool
    a_dtype: Any
    matrix: MatrixProduct | None  # if the tangent is a matrix that is multiplied by `a`

    def multiply(self, a: Array, t: Array) -> Array:
        a = a.astype(self.a_dtype)
        return self.e.run(t, a)[0] if self.tangent_first else self.e.run(a, t)[0]

    def keep_used(self, a: Array, ct: Array) -> Array:
        return keep_used_rows(self.e, 1 if self.tangent_first else 0, a, ct)

    multiply_kept = multiply


@dataclass(frozen=True, eq=False)
class _Mapped:
    """A product under `jax.vmap`. What `keep_used` returns has the mapped axis first."""

    product: Any
    axes: tuple[int | None, int | None]

    @property
    def matrix(self) -> MatrixProduct | None:
        return self.product.matrix if self.axes[1] is None else None

    def multiply(self, a: Array, t: Array) -> Array:
        return jax.vmap(self.product.multiply, self.axes)(a, t)

    def keep_used(self, a: Array, ct: Array) -> Array:
        return jax.vmap(self.product.keep_used, (self.axes[0], 0))(a, ct)

    def multiply_kept(self, a: Array, t: Array) -> Array:
        return jax.vmap(self.product.multiply_kept, (0, self.axes[1]))(a, t)


_read_where_used = Primitive("read_where_used")
_read_where_used.def_impl(lambda a, t, product: product.multiply(a, t))


def _abstract(a: Any, t: Any, *, product: Any) -> Any:
    return jax.make_jaxpr(product.multiply)(a, t).out_avals[0]


def _jvp(primals: Any, tangents: Any, *, product: Any) -> Any:
    (a, t), (dot_a, dot_t) = primals, tangents
    changes = []
    if type(dot_a) is not ad.Zero:
        changes.append(product.multiply(dot_a, t))
    if type(dot_t) is not ad.Zero:
        changes.append(_read_where_used.bind(a, dot_t, product=product))
    return _read_where_used.bind(a, t, product=product), sum(changes[1:], changes[0])


def _transpose(ct: Any, a: Any, t: Any, *, product: Any) -> Any:
    if type(ct) is ad.Zero:
        return None, ad.Zero(t.aval)
    kept = product.keep_used(a, ct)
    if product.matrix is not None:
        return None, product.matrix.pull_w(kept.astype(ct.dtype), ct, t.aval.dtype)
    return None, jax.linear_transpose(partial(product.multiply_kept, kept), t.aval)(ct)[0]


def _batch(args: Any, axes: Any, *, product: Any) -> Any:
    return _read_where_used.bind(*args, product=_Mapped(product, axes)), 0


_read_where_used.def_abstract_eval(_abstract)
ad.primitive_jvps[_read_where_used] = _jvp
ad.primitive_transposes[_read_where_used] = _transpose
batching.primitive_batchers[_read_where_used] = _batch
mlir.register_lowering(
    _read_where_used, mlir.lower_fun(lambda a, t, product: product.multiply(a, t), multiple_results=False)
)
