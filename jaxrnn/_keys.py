"""Random keys of the steps of one call of `unroll`.

The key of a step is a JAX random key that holds two keys: one that differs from step to step, from which `jax.random`
draws, and one that is the same at all steps of the call. Splitting it splits both, so wrappers can give each cell keys
of its own.

Both are Threefry keys even if the user's key is not, because the numbers of a Threefry key do not depend on
`jax.vmap`. A loop that runs the steps in chunks therefore draws the same numbers.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.extend.random
import jax.numpy as jnp
from jax import Array

_THREEFRY = "threefry2x32"


def step_keys(key: Array, number: int) -> Array:
    """Returns the keys of all steps of one call [number], made from the random key of the call."""
    step, call = _halves(as_step_key(key))
    return _step_key(jax.random.split(step, number), call)


def as_step_key(key: Array) -> Array:
    """Returns the key of a step: `key` itself, or if it is any other random key, one that is made from it."""
    if _is_step_key(key):
        return key
    step, call = jax.random.bits(key, (2, 2), jnp.uint32)
    return _step_key(_threefry(step), _threefry(call))


def call_key(key: Array) -> Array:
    """Returns the random key that is the same at all steps of one call of `unroll`, given the key of a step.

    Use `key` for random numbers that differ from step to step, and `call_key(key)` for those that all steps share.

    Example:
      >>> class VariationalElman(jaxrnn.Elman):  # drops the same inputs at all steps
      ...     def project(self, params, x, key=None):
      ...         if key is not None:
      ...             keep = jax.random.bernoulli(jaxrnn.call_key(key), 0.5, x.shape)
      ...             x = jnp.where(keep, x / 0.5, 0)
      ...         return super().project(params, x)
      >>> cell = VariationalElman(4)
      >>> params = cell.init(jax.random.key(0), input_size=3)
      >>> zs = jaxrnn.Plan(loop=None).steps(jnp.ones((5, 3)), jax.random.key(1)).project(cell, params)
      >>> bool((zs == zs[0]).all())
      True

    Args:
      key: The random key that `project` received. For a key that does not belong to a step, the result is the key of
        a call that consists of one step.
    """
    return _halves(as_step_key(key))[1]


def _is_step_key(key: Array) -> bool:
    is_typed = jnp.issubdtype(key.dtype, jax.dtypes.prng_key)
    return is_typed and jax.random.key_impl(key) == _STEP_KEYS


def _halves(key: Array) -> tuple[Array, Array]:
    step, call = jnp.split(jax.random.key_data(key), 2, axis=-1)
    return _threefry(step), _threefry(call)


def _step_key(step: Array, call: Array) -> Array:
    """Returns a key of a step, or several if one of the arguments is an array of keys."""
    step, call = jax.random.key_data(step), jax.random.key_data(call)
    return _wrap(jnp.concatenate(jnp.broadcast_arrays(step, call), axis=-1))


def _threefry(data: Array) -> Array:
    return jax.random.wrap_key_data(data, impl=_THREEFRY)


def _wrap(data: Array) -> Array:
    return jax.random.wrap_key_data(data, impl=_STEP_KEYS)  # type: ignore[arg-type]


# What `jax.random` does with a key of a step, in terms of the four integers that it consists of.


def _seed(seed: Array) -> Array:
    return jax.random.key_data(as_step_key(jax.random.key(seed, impl=_THREEFRY)))


def _split(data: Array, shape: tuple[int, ...]) -> Array:
    step, call = (jax.random.split(half, shape) for half in _halves(_wrap(data)))
    return jax.random.key_data(_step_key(step, call))


def _random_bits(data: Array, bit_width: int, shape: tuple[int, ...]) -> Array:
    return jax.random.bits(_halves(_wrap(data))[0], shape, f"uint{bit_width}")


def _fold_in(data: Array, number: Any) -> Array:
    step, call = (jax.random.fold_in(half, number) for half in _halves(_wrap(data)))
    return jax.random.key_data(_step_key(step, call))


_STEP_KEYS = jax.extend.random.define_prng_impl(
    key_shape=(4,), seed=_seed, split=_split, random_bits=_random_bits, fold_in=_fold_in, name="jaxrnn_step", tag="step"
)
