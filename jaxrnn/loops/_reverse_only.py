"""A clear error for forward-mode differentiation of a loop that has its own backward pass.

A `jax.custom_vjp` function raises JAX's own error under `jax.jvp`, which does not say what to do. Reverse mode
applies the same forward-mode rules first, so a rule cannot raise the error at once. Instead, the tangent is a primitive
that reverse mode transposes away, and that raises the error only if something computes its value. Under `jax.vmap`, as
in `jax.jit(jax.jacfwd(f))`, JAX's own error comes first, so it is translated.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir


def reverse_only(tree: Any) -> Any:
    """Returns a pytree unchanged; its reverse-mode derivative is the identity and its forward-mode one an error."""
    return jax.tree.map(lambda x: _identity(x) if jnp.issubdtype(x.dtype, jnp.inexact) else x, tree)


@jax.custom_jvp
def _identity(x: Array) -> Array:
    return x


@contextlib.contextmanager
def translated_error() -> Iterator[None]:
    """Replaces JAX's error for forward-mode differentiation of a `jax.custom_vjp` function by a clear one."""
    try:
        yield
    except TypeError as error:
        if "forward-mode autodiff (jvp) to a custom_vjp function" not in str(error):
            raise
        raise TypeError(MESSAGE) from None


MESSAGE = (
    "the loops Auto, Deferred and Native have no forward-mode derivative: call unroll with loop=jaxrnn.loops.Scan()"
)


def _refuse(*args: Any, **kwargs: Any) -> Any:
    raise TypeError(MESSAGE)


_tangent = Primitive("reverse_only")
_tangent.def_impl(_refuse)
_tangent.def_abstract_eval(lambda x: x)
mlir.register_lowering(_tangent, _refuse)  # pyright: ignore[reportArgumentType]
ad.deflinear2(_tangent, lambda ct, x: [ct])
batching.defvectorized(_tangent)

_identity.defjvp(lambda primals, tangents: (primals[0], _tangent.bind(tangents[0])))
