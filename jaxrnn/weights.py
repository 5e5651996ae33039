"""Functions of parameters, called before `unroll`: weight dropout, weight noise and weight normalization.

They find arrays by name in any pytree of parameters. A name is that of any field or key on the way to an array:
`"w_h"` selects every recurrent matrix of a stack, and `"layers_1"` selects all arrays of its second layer.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxrnn._check import is_number
from jaxrnn._names import names_along
from jaxrnn.layer import Params
from jaxrnn.ops import align, dropout_mask

__all__ = [
    "Normalized",
    "denormalize",
    "drop",
    "noise",
    "normalize",
]


def __dir__() -> list[str]:
    return __all__


def drop(key: Array | None, params: Params, rate: float, names: Collection[str] = ("w_h",)) -> Params:
    r"""Drops weights at random, the same ones at all steps and for all sequences of a call.

    .. math:: W \to m \odot W / (1 - p), \quad m \sim Bernoulli(1 - p)

    Example:
      >>> cell = jaxrnn.LSTM(64)
      >>> params, xs = cell.init(jax.random.key(0), input_size=8), jnp.ones((20, 32, 8))
      >>> def loss(params, key):
      ...     params = jaxrnn.weights.drop(key, params, rate=0.5)
      ...     return (jaxrnn.unroll(cell, params, xs)[1] ** 2).mean()
      >>> grads = jax.grad(loss)(params, jax.random.key(1))
      >>> round(float((grads.w_h == 0).mean()), 1)  # the gradient of a dropped weight is zero
      0.5

    Args:
      key: A random key. None means evaluation, in which nothing is dropped.
      params: Any parameters.
      rate: The probability :math:`p` of dropping, from 0 to below 1.
      names: Names of the arrays. `("w_h",)` are the recurrent matrices of most cells.

    Returns:
      Parameters of the same structure, shapes and dtypes.

    Raises:
      TypeError: An argument has the wrong type.
      ValueError: The rate is out of range, or no array has one of the names.

    References:
      S. Merity, N. Keskar, R. Socher, "Regularizing and optimizing LSTM language models", 2018; L. Wan, M. Zeiler,
      S. Zhang, Y. LeCun, R. Fergus, "Regularization of neural networks using DropConnect", 2013.
    """
    if not _is_scalar(rate):
        raise TypeError(f"rate must be a number from 0 to below 1, but it is {rate!r}")
    if not 0 <= rate < 1:
        raise ValueError(f"rate must be a number from 0 to below 1, but it is {rate!r}")

    def dropped(key: Array, w: Array) -> Array:
        return jnp.where(dropout_mask(key, rate, w.shape), w / (1 - rate), 0).astype(w.dtype)

    return _map_with_keys(dropped, key, params, names)


def noise(key: Array | None, params: Params, scale: float, names: Collection[str] = ("w_x", "w_h")) -> Params:
    r"""Adds Gaussian noise to weights, the same at all steps and for all sequences of a call.

    .. math:: W \to W + \epsilon, \quad \epsilon \sim \mathcal{N}(0, \sigma^2)

    Example:
      >>> cell = jaxrnn.LSTM(64)
      >>> params = cell.init(jax.random.key(0), input_size=8)
      >>> noisy = jaxrnn.weights.noise(jax.random.key(1), params, scale=0.1)
      >>> state, ys = jaxrnn.unroll(cell, noisy, jnp.ones((20, 32, 8)))
      >>> round(float((noisy.w_h - params.w_h).std()), 2)
      0.1

    Args:
      key: A random key. None means evaluation, in which there is no noise.
      params: Any parameters.
      scale: The standard deviation :math:`\sigma`.
      names: Names of the arrays.

    Returns:
      Parameters of the same structure, shapes and dtypes.

    Raises:
      TypeError: An argument has the wrong type.
      ValueError: The scale is negative or not finite, or no array has one of the names.

    References:
      A. Graves, A. Mohamed, G. Hinton, "Speech recognition with deep recurrent neural networks", 2013.
    """
    if not _is_scalar(scale):
        raise TypeError(f"scale must be a finite number of at least 0, but it is {scale!r}")
    if not isinstance(scale, Array) and not 0 <= scale < np.inf:  # an array may be traced, such as a schedule
        raise ValueError(f"scale must be a finite number of at least 0, but it is {scale!r}")

    def noisy(key: Array, w: Array) -> Array:
        return w + scale * jax.random.normal(key, w.shape, w.dtype)

    return _map_with_keys(noisy, key, params, names)


class Normalized(NamedTuple):
    r"""A weight as a length and a direction per output unit, made by `normalize`.

    .. math:: w_j = g_j v_j / \|v_j\|

    Example:
      >>> params = jaxrnn.weights.normalize({"w_x": jnp.array([[3.0], [4.0]])}, names="w_x")
      >>> params["w_x"].g.tolist()
      [5.0]
    """

    g: Array  # [output], the length of each column
    v: Array  # [..., output], its direction, of any length


def normalize(params: Params, names: Collection[str] = ("w_x", "w_h")) -> Any:
    r"""Splits weights into a length and a direction per output unit, which are trained in their place.

    .. math:: w_j = g_j v_j / \|v_j\|

    Here :math:`w_j` is a column, along the last axis. Initially :math:`v = w` and :math:`g = \|w\|`, so that
    `denormalize` returns the same weights. Train what this function returns, and call `denormalize` in the loss.
    Columns of zeros have no direction and stay zero.

    Example:
      >>> cell = jaxrnn.LSTM(64)
      >>> params, xs = cell.init(jax.random.key(0), input_size=8), jnp.ones((20, 32, 8))
      >>> normalized = jaxrnn.weights.normalize(params)
      >>> def loss(normalized):
      ...     params = jaxrnn.weights.denormalize(normalized)
      ...     return (jaxrnn.unroll(cell, params, xs)[1] ** 2).mean()
      >>> grads = jax.grad(loss)(normalized)
      >>> grads.w_h.g.shape, grads.w_h.v.shape
      ((256,), (64, 256))

    Args:
      params: Any parameters.
      names: Names of the arrays.

    Returns:
      The parameters with a `Normalized` in place of each of these arrays.

    Raises:
      TypeError: `names` are not strings.
      ValueError: No array has one of the names.

    References:
      T. Salimans, D. Kingma, "Weight normalization: a simple reparameterization to accelerate training of deep neural
      networks", 2016.

    Deviations:
      The lengths are those of the initial weights and are not fitted to a batch of data.
    """
    return _map_named(lambda w: Normalized(_length(w), w), params, names)


def denormalize(params: Any) -> Params:
    """Replaces every `Normalized` in a pytree by its weight, which undoes `normalize`.

    Example:
      >>> params = jaxrnn.LSTM(64).init(jax.random.key(0), input_size=8)
      >>> restored = jaxrnn.weights.denormalize(jaxrnn.weights.normalize(params))
      >>> bool(jnp.allclose(restored.w_h, params.w_h))
      True

    Args:
      params: Parameters with a `Normalized` in place of some arrays.

    Returns:
      The parameters of a layer.
    """

    def weight(leaf: Any) -> Any:
        if not isinstance(leaf, Normalized):
            return leaf
        length = _length(leaf.v)
        scale = jnp.where(length > 0, leaf.g / jnp.where(length > 0, length, 1), 0)
        return leaf.v * align(scale, leaf.v)

    return jax.tree.map(weight, params, is_leaf=lambda leaf: isinstance(leaf, Normalized))


def _length(w: Array) -> Array:
    """Returns the norm of each column, with a gradient that is finite at zero."""
    square = (w**2).sum(axis=tuple(range(w.ndim - 1)))
    return jnp.where(square > 0, jnp.sqrt(jnp.where(square > 0, square, 1)), 0)


def _is_scalar(value: Any) -> bool:
    """Returns whether a value is a real number or an array of one, which may be traced."""
    if isinstance(value, Array | np.ndarray):
        return value.shape == () and jnp.issubdtype(value.dtype, jnp.number) and not jnp.iscomplexobj(value)
    return is_number(value)


def _map_with_keys(change: Callable[[Array, Array], Array], key: Array | None, params: Params, names: Any) -> Params:
    """Replaces each array that has one of the names by `change(key, w)`, with a different key for each array."""
    count = 0

    def changed(w: Array) -> Array:
        nonlocal count
        count += 1
        return w if key is None else change(jax.random.fold_in(key, count), w)

    return _map_named(changed, params, names)


def _map_named(change: Callable[[Array], Any], params: Params, names: Collection[str]) -> Any:
    """Replaces each array that has one of the names by `change(w)`. Each name must be that of an array."""
    wanted = [names] if isinstance(names, str) else names
    if not isinstance(wanted, Collection) or not all(isinstance(name, str) for name in wanted):
        raise TypeError(f"names must be strings, such as ('w_h',), but they are {names!r}")
    leaves, tree = jax.tree_util.tree_flatten_with_path(params)
    paths = [names_along(path) for path, _ in leaves]
    if missing := set(wanted).difference(*paths):
        known = sorted({name for path in paths for name in path})
        raise ValueError(
            f"params must have arrays named {', '.join(sorted(missing))}, but the names in them are {', '.join(known)}"
        )
    return tree.unflatten(
        [
            change(leaf) if set(wanted).intersection(path) else leaf
            for path, (_, leaf) in zip(paths, leaves, strict=True)
        ]
    )
