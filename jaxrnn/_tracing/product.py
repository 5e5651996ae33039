"""A product with a parameter, and its cotangents."""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
from jax import Array

from jaxrnn._tracing.convolution import is_plain, pull_images, pull_kernel
from jaxrnn._tracing.equations import DependsOn, Equation
from jaxrnn._tracing.matrix_product import MatrixProduct, OfMatrix
from jaxrnn._tracing.unused_rows import PRODUCTS, keep_used_rows


class Product:
    """A product of a varying `a` and a parameter `w`, in whichever order the program has them.

    Attributes:
      aval: The shape and dtype of the product.
      a_dtype: The dtype of `a`.
      w_place: The place of `w`.
    """

    def __init__(self, e: Equation, avals: list[Any], swapped: bool):
        self.aval = avals[e.outs[0]]
        self.w_place = e.ins[0 if swapped else 1]
        self.a_dtype = avals[e.ins[1 if swapped else 0]].dtype
        self._e, self._run, self._swapped = e, e.run, swapped
        self._convolution = None  # the parameters of a plain convolution on a CPU
        if e.primitive == "conv_general_dilated" and not swapped and is_plain(e.params):
            self._convolution = e.params if jax.default_backend() == "cpu" else None
        w_operand = 0 if swapped else 1
        self._matrix = MatrixProduct.of(e, w_operand, avals[e.ins[1 - w_operand]].ndim, avals[self.w_place].ndim)

    @staticmethod
    def of(e: Equation, depends_on: list[DependsOn], avals: list[Any]) -> Product | None:
        """Returns an equation as a product of something that varies and a parameter, or None if it is not one."""
        if e.primitive not in PRODUCTS:
            return None
        operands = [depends_on[p] for p in e.ins]
        if DependsOn.PARAMETERS not in operands or not max(operands).varies:
            return None
        return Product(e, avals, swapped=operands[0] == DependsOn.PARAMETERS)

    @property
    def is_of_matrix(self) -> bool:
        """Whether the program multiplies vectors by a matrix, `a @ w`."""
        return self._matrix is not None and self._matrix.w_axis == 0 and not self._swapped and self.aval.ndim == 1

    def __call__(self, a: Array, w: Array) -> Array:
        return self._run(w, a)[0] if self._swapped else self._run(a, w)[0]

    def operands(self, first: Array, second: Array) -> tuple[Array, Array]:
        """Returns `a` and `w`, given the operands in the order of the program."""
        return (second, first) if self._swapped else (first, second)

    def pull_a(self, ct: Array, w: Array, a: Any) -> Array:
        """Returns the cotangent of `a`, which is given for its shape and dtype."""
        if self._convolution is not None:
            return pull_images(self._convolution, ct, w, a)
        return jax.linear_transpose(lambda a: self(a, w), a)(ct)[0]

    def pull_w(self, a: Array, ct: Array, w: Any, of_matrix: OfMatrix | None = None) -> Array:
        """Returns the cotangent of `w`, which is given for its shape and dtype, summed over steps.

        `a` and `ct` have the time axis first. Unused rows are ignored, even NaN.

        For a matrix, `of_matrix(a, ct)` computes `a.T @ ct`, for `a` [rows, k] and `ct` [rows, n], and must ignore
        unused rows, too. None leaves it to XLA.
        """
        if of_matrix and self._matrix is not None:
            return self._matrix.pull_w(a, ct, w.dtype, of_matrix)
        a = jax.vmap(partial(keep_used_rows, self._e, int(self._swapped)))(a, ct)
        if self._convolution is not None:
            return pull_kernel(self._convolution, a, ct, w)
        if self._matrix is not None:
            return self._matrix.pull_w(a, ct, w.dtype)
        return jax.linear_transpose(lambda w: jax.vmap(self, (0, None))(a, w), w)(ct)[0]
