"""Products with a matrix, and the gradient of the matrix."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from jaxrnn._tracing.equations import Equation

OfMatrix = Callable[[Array, Array], Array]  # (a [rows, k], ct [rows, n]) -> a.T @ ct, the gradient of a matrix


class MatrixProduct(NamedTuple):
    """A product of an array `a` with a matrix `w`; either can be the first operand.

    Axes of `a` and of the product are negative, that is, counted from the end, so that other axes, such as time, can
    precede them.

    Attributes:
      a_axis: The contracted axis of `a`.
      w_axis: The contracted axis of `w`.
      ct_axis: The axis of the product that comes from `w`.
      precision: The precision of the product, as in `jax.lax.dot_general`.
    """

    a_axis: int
    w_axis: int
    ct_axis: int
    precision: Any

    @staticmethod
    def of(e: Equation, w_operand: int, a_ndim: int, w_ndim: int) -> MatrixProduct | None:
        """Returns the product that an equation computes, or None if it is not a product with a matrix.

        Args:
          e: The equation.
          w_operand: The index of the operand that should be the matrix, 0 or 1.
          a_ndim: The number of axes of the other operand.
          w_ndim: The number of axes of the matrix.
        """
        if e.primitive != "dot_general":
            return None
        contracted, batched = e.params["dimension_numbers"]
        if batched[0] or len(contracted[0]) != 1 or w_ndim != 2:
            return None
        (a_axis,), (w_axis,) = contracted if w_operand else contracted[::-1]
        return MatrixProduct(a_axis - a_ndim, w_axis, -1 if w_operand else -a_ndim, e.params["precision"])

    def pull_w(self, a: Array, ct: Array, dtype: Any, of_matrix: OfMatrix | None = None) -> Array:
        """Returns the cotangent of `w`, summed over all other axes.

        Args:
          a: The array that was multiplied by `w`.
          ct: The cotangent of the product.
          dtype: The dtype of `w`.
          of_matrix: A function that computes `a.T @ ct` in float32, for `a` [rows, k] and `ct` [rows, n]. None leaves
            it to XLA.
        """
        a, ct = jnp.moveaxis(a, self.a_axis, -1), jnp.moveaxis(ct, self.ct_axis, -1)
        if of_matrix:
            w_ct = of_matrix(*(x.astype(jnp.float32).reshape(-1, x.shape[-1]) for x in (a, ct)))
            return (w_ct if self.w_axis == 0 else w_ct.T).astype(dtype)
        rows = tuple(range(a.ndim - 1))
        # `a` is the first operand, whereas JAX's own transpose puts `ct` first. XLA's CPU compiler would copy `ct`, and
        # `a` [time * batch, input] is smaller than the cotangent of several gates or of a vocabulary.
        how: Any = {"precision": self.precision, "preferred_element_type": jnp.promote_types(ct.dtype, jnp.float32)}
        w_ct = jax.lax.dot_general(a, ct, ((rows, rows), ((), ())), **how)
        return (w_ct if self.w_axis == 0 else w_ct.T).astype(dtype)
