"""A clear error where JAX would have to differentiate Newton's iterations in reverse mode.

The derivatives of the solution do not go through the iterations. But inside `jax.lax.scan`, as with a chunk, JAX 0.10
drops the rule for them after the first reverse-mode derivative, so a second one reaches the loop, whose number of
iterations is not known.
"""

from __future__ import annotations

from typing import Any

from jax import Array
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir


def forward_only(x: Array) -> Array:
    """Returns an array unchanged; its forward-mode derivative is the identity and its reverse-mode one an error."""
    return _identity.bind(x)


def _refuse(*args: Any, **kwargs: Any) -> Any:
    raise TypeError(
        "Newton has no gradient of a gradient inside a scan, or with chunk, in this version of JAX: differentiate the "
        "gradient in forward mode, as in jax.jvp(jax.grad(f), ...), or call unroll with loop=jaxrnn.loops.Scan()"
    )


_identity = Primitive("forward_only")
_identity.def_impl(lambda x: x)
_identity.def_abstract_eval(lambda x: x)
mlir.register_lowering(_identity, lambda _, x: [x])  # pyright: ignore[reportArgumentType]
ad.deflinear2(_identity, _refuse)
batching.defvectorized(_identity)
