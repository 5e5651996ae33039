"""Random keys of a call of `unroll`, one for all sequences or one for each, and the keys of its steps.

The key of a step is a JAX random key that consists of two keys: one that differs from step to step, from which
`jax.random` draws, and one that is the same at all steps of the call. Splitting it splits both, so wrappers can give
each cell its own keys.

Both are Threefry keys even if the user's key is not, because the numbers that a Threefry key gives do not depend on
`jax.vmap`. A loop that runs the steps in chunks therefore draws the same numbers.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.extend.random
import jax.numpy as jnp
from jax import Array

_THREEFRY = "threefry2x32"


def as_keys(key: Array) -> Array:
    """Returns the key of a call, or its keys [*batch] of the sequences, in a form that `jax.vmap` can map over.

    Raw keys become typed keys. An array of other keys than Threefry keys becomes one of Threefry keys; see above.
    """
    key = _typed(key)
    if key.ndim == 0 or jax.random.key_impl(key) in (_THREEFRY, _STEP_KEYS):
        return key
    words = jnp.moveaxis(jax.random.key_data(key), -1, 0)
    keys = jnp.broadcast_to(jax.random.key(0, impl=_THREEFRY), key.shape)
    for word in words:
        keys = each(jax.random.fold_in, keys, word)
    return keys


def each(function: Callable[..., Any], keys: Array, *others: Any) -> Any:
    """Maps a function over an array of keys, and over the same leading axes of other pytrees."""
    for _ in range(keys.ndim):
        function = jax.vmap(function)
    return function(keys, *others)


def split(key: Array | None, number: int) -> list[Any]:
    """Splits a key, or each key of an array, into `number` independent ones. If it is None, all are None."""
    if key is None:
        return [None] * number
    return list(jnp.moveaxis(each(partial(jax.random.split, num=number), key), -1, 0))


def step_keys(key: Array, number: int) -> Array:
    """Returns the keys [number, *batch] of all steps of a call, given its key or its keys [*batch]."""

    def of_one(key: Array) -> Array:
        step, call = _halves(as_step_key(key))
        return _step_key(jax.random.split(step, number), call)

    return jnp.moveaxis(each(of_one, as_keys(key)), -1, 0)


def as_step_key(key: Array) -> Array:
    """Converts any random key to a key of a step. Keys of steps are returned unchanged."""
    if _is_step_key(key):
        return key
    key = _typed(key)
    if key.ndim > 0:
        return each(as_step_key, key)
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
      key: The random key that `project` has received. Any other key is treated as that of a call with one step.
    """
    return _halves(as_step_key(key))[1]


def _typed(key: Array) -> Array:
    return key if _is_typed(key) else jax.random.wrap_key_data(key)


def _is_typed(key: Array) -> bool:
    return jnp.issubdtype(key.dtype, jax.dtypes.prng_key)


def _is_step_key(key: Array) -> bool:
    return _is_typed(key) and jax.random.key_impl(key) == _STEP_KEYS


def _halves(key: Array) -> tuple[Array, Array]:
    step, call = jnp.split(jax.random.key_data(key), 2, axis=-1)
    return _threefry(step), _threefry(call)


def _step_key(step: Array, call: Array) -> Array:
    """Returns the key of a step, or an array of them if one of the arguments is an array."""
    step, call = jax.random.key_data(step), jax.random.key_data(call)
    return _wrap(jnp.concatenate(jnp.broadcast_arrays(step, call), axis=-1))


def _threefry(data: Array) -> Array:
    return jax.random.wrap_key_data(data, impl=_THREEFRY)


def _wrap(data: Array) -> Array:
    return jax.random.wrap_key_data(data, impl=_STEP_KEYS)  # type: ignore[arg-type]


# The operations of `jax.random` on the key of a step, which consists of four integers.


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
