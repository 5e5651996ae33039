"""A clear error where a loop with a backward pass of its own is differentiated forwards."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from jax import Array
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir


def reverse_only(tree: Any) -> Any:
    """The identity on a pytree, with a backward pass, and an error in place of a forward-mode derivative."""
    return jax.tree.map(lambda x: _identity(x) if jnp.issubdtype(x.dtype, jnp.inexact) else x, tree)


@jax.custom_jvp
def _identity(x: Array) -> Array:
    return x


def _refuse(*args: Any, **kwargs: Any) -> Any:
    raise TypeError("the Deferred loop has no forward-mode derivative: call unroll with loop=jaxrnn.loops.Scan()")


# A tangent that can be transposed but, if anything computes it, refuses.
_tangent = Primitive("reverse_only")
_tangent.def_impl(_refuse)
_tangent.def_abstract_eval(lambda x: x)
mlir.register_lowering(_tangent, _refuse)  # pyright: ignore[reportArgumentType]
ad.deflinear2(_tangent, lambda ct, x: [ct])
batching.defvectorized(_tangent)

_identity.defjvp(lambda primals, tangents: (primals[0], _tangent.bind(tangents[0])))
