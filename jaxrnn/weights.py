"""Functions of parameters, to be called before `unroll`: dropped, noisy and normalized weights.

They find arrays by name in any pytree of parameters. A name is a field or a key on the way to an array, so that
`"w_h"` is every recurrent matrix of a stack, and `"layers_1"` all that its second layer has.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from jaxrnn._names import names as names_of
from jaxrnn.layer import Params
from jaxrnn.ops import dropout_mask


def drop(key: Array | None, params: Params, rate: float, names: Collection[str] = ("w_h",)) -> Params:
    r"""Weights dropped at random, the same ones at all steps and for all sequences of a call.

    .. math:: W \to m \odot W / (1 - p), \quad m \sim Bernoulli(1 - p)

    Args:
      key: a random key; None is evaluation, where nothing is dropped.
      params: any parameters.
      rate: the probability :math:`p` of dropping, from 0 to below 1.
      names: of the arrays. `("w_h",)` are the recurrent matrices of most cells.

    Returns:
      Parameters of the same structure, shapes and dtypes.

    References: S. Merity, N. Keskar, R. Socher, "Regularizing and optimizing LSTM language models", 2018; L. Wan,
    M. Zeiler, S. Zhang, Y. LeCun, R. Fergus, "Regularization of neural networks using DropConnect", 2013.
    """
    if not 0 <= rate < 1:
        raise ValueError(f"the rate at which weights are dropped must be from 0 to below 1, but it is {rate!r}")

    def dropped(key: Array, w: Array) -> Array:
        return jnp.where(dropout_mask(key, rate, w.shape), w / (1 - rate), 0).astype(w.dtype)

    return _random(dropped, key, params, names)


def noise(key: Array | None, params: Params, scale: float, names: Collection[str] = ("w_x", "w_h")) -> Params:
    r"""Weights with Gaussian noise, the same at all steps and for all sequences of a call.

    .. math:: W \to W + \epsilon, \quad \epsilon \sim \mathcal{N}(0, \sigma^2)

    Args:
      key: a random key; None is evaluation, without noise.
      params: any parameters.
      scale: the standard deviation :math:`\sigma`.
      names: of the arrays.

    Returns:
      Parameters of the same structure, shapes and dtypes.

    References: A. Graves, A. Mohamed, G. Hinton, "Speech recognition with deep recurrent neural networks", 2013.
    """

    def noisy(key: Array, w: Array) -> Array:
        return w + scale * jax.random.normal(key, w.shape, w.dtype)

    return _random(noisy, key, params, names)


class Normalized(NamedTuple):
    """A weight as length and direction; what `normalize` puts in its place."""

    g: Array  # [output], the length of each column
    v: Array  # [..., output], its direction, at any length


def normalize(params: Params, names: Collection[str] = ("w_x", "w_h")) -> Any:
    r"""Weights as the lengths and directions of what leads to each output unit, to be trained in their place.

    .. math:: w_j = g_j v_j / \|v_j\|

    The columns are those of the last axis. They begin at :math:`v = w, g = \|w\|`, so that `denormalize` gives back the
    very weights: train what this function returns, and call `denormalize` in the loss. Columns of zeros have no
    direction and stay zero.

    Args:
      params: any parameters.
      names: of the arrays.

    Returns:
      The parameters with a `Normalized` in the place of each array.

    References: T. Salimans, D. Kingma, "Weight normalization: a simple reparameterization to accelerate training of
    deep neural networks", 2016. Deviation: begins at the initial weights as they are, not fitted to a batch of data.
    """
    return _mapped(lambda w: Normalized(_length(w), w), params, names)


def denormalize(params: Any) -> Params:
    """The parameters that `normalize` took apart: every `Normalized` in a pytree becomes its weight."""

    def weight(leaf: Any) -> Any:
        if not isinstance(leaf, Normalized):
            return leaf
        length = _length(leaf.v)
        return leaf.v * jnp.where(length > 0, leaf.g / jnp.where(length > 0, length, 1), 0)

    return jax.tree.map(weight, params, is_leaf=lambda leaf: isinstance(leaf, Normalized))


def _length(w: Array) -> Array:
    square = (w**2).sum(axis=tuple(range(w.ndim - 1)))
    return jnp.where(square > 0, jnp.sqrt(jnp.where(square > 0, square, 1)), 0)  # a gradient that is finite at 0


def _random(change: Callable[[Array, Array], Array], key: Array | None, params: Params, names: Any) -> Params:
    """`change(key, w)` of each array with one of the names, each with a key of its own."""
    count = 0

    def changed(w: Array) -> Array:
        nonlocal count
        count += 1
        return w if key is None else change(jax.random.fold_in(key, count), w)

    return _mapped(changed, params, names)


def _mapped(change: Callable[[Array], Any], params: Params, names: Collection[str]) -> Any:
    """`change(w)` of each array with one of the names, all of which must occur."""
    wanted = {names} if isinstance(names, str) else set(names)
    leaves, tree = jax.tree_util.tree_flatten_with_path(params)
    paths = [names_of(path) for path, _ in leaves]
    if missing := wanted.difference(*paths):
        known = sorted({name for path in paths for name in path})
        raise ValueError(f"there is no {', '.join(sorted(missing))} in these parameters: they have {', '.join(known)}")
    return tree.unflatten(
        [change(leaf) if wanted.intersection(path) else leaf for path, (_, leaf) in zip(paths, leaves, strict=True)]
    )
