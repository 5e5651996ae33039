"""Small operations that cells share."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from jax import Array
from jax.nn import sigmoid
from jax.numpy import tanh

from jaxrnn.layer import Layer, joint_dtype

__all__ = [
    "affine",
    "check_divisor",
    "check_input_size",
    "dropout_mask",
    "is_symbols",
    "leading_shape",
    "mod_relu",
    "normalized",
    "sigmoid",
    "spread_like",
    "tanh",
    "where",
    "zeros",
]


def is_symbols(x: Any) -> bool:
    """Whether an input is made of symbols: integers that stand for their one-hot vectors."""
    return jnp.issubdtype(jnp.result_type(x), jnp.integer)


def leading_shape(layer: Layer, x: Any) -> tuple[int, ...]:
    """The axes of an input before those of its features."""
    x = jax.tree.leaves(x)[0]
    return x.shape if is_symbols(x) else x.shape[: x.ndim - layer.num_feature_axes]


def affine(x: Array, w: Array, b: Array | None = None) -> Array:
    """`x @ w + b`.

    Integer `x` is the same as its one-hot vectors, at the price of a row lookup. A symbol out of
    range gives NaN, never its neighbour's row.

    Args:
      x: [*batch, input], or integers [*batch].
      w: [input, output].
      b: [output].

    Returns:
      [*batch, output], of the dtype that the operands promote to.
    """
    if is_symbols(x):
        y = w.at[x].get(mode="fill", fill_value=jnp.nan, wrap_negative_indices=False)
    elif x.shape[-1:] == w.shape[:1]:
        y = x @ w
    else:
        raise ValueError(
            f"the last axis of the input must have the input size of the parameters, {w.shape[0]}, "
            f"but the input's shape ends in {x.shape[-1:]}: call init with the size that is fed"
        )
    return y if b is None else y + b


def check_divisor(layer: Any, name: str) -> None:
    """For cells that cut their hidden size into equal parts: their argument `name` says how many, or of which size."""
    number = getattr(layer, name)
    if not isinstance(number, int) or number < 1 or layer.hidden_size % number:
        raise ValueError(
            f"{type(layer).__name__}'s {name} must be a positive integer that divides its hidden_size, "
            f"{layer.hidden_size}, but it is {number!r}"
        )


def check_input_size(layer: Layer, input_size: int, size: int) -> None:
    """For cells that read their input as it is, beside their states."""
    if input_size != size:
        raise ValueError(
            f"{type(layer).__name__} reads its input as it is, not through a matrix, so that the input size must be "
            f"{size}, but it is {input_size}: put a Dense({size}) before it, or an Embedding({size}) for symbols"
        )


def normalized(x: Array, epsilon: float) -> Array:
    """`x` less its mean over the last axis, divided by its standard deviation: `epsilon` is added to the variance."""
    centered = x - x.mean(-1, keepdims=True)
    return centered * jax.lax.rsqrt((centered**2).mean(-1, keepdims=True) + epsilon)


def mod_relu(x: Array, b: Array) -> Array:
    """`relu(|x| + b) * x / |x|` of real or complex numbers, and 0 of 0: the size is rectified, the phase stays."""
    size = jnp.abs(x)
    return x * (jax.nn.relu(size + b) / jnp.where(size > 0, size, 1))


def zeros(params: Any, batch_shape: tuple[int, ...], dtype: Any, *sizes: int) -> list[Array]:
    """One array of zeros [*batch, size] for each size, of the parameters' dtype unless another is given."""
    dtype = joint_dtype(params) if dtype is None else dtype
    return [spread_like(params, jnp.zeros((*batch_shape, size), dtype)) for size in sizes]


def spread_like(other: Any, tree: Any) -> Any:
    """`tree` as values that may differ between devices inside `jax.shard_map` where a leaf of `other` may.

    A loop's carry must say so from the start, and parameters that say so get the sum of all devices' gradients.
    """

    def axes_of(leaf: Any) -> frozenset[Any]:
        aval = leaf if hasattr(leaf, "manual_axis_type") else jax.typeof(leaf)
        return aval.manual_axis_type.varying

    axes = frozenset().union(*map(axes_of, jax.tree.leaves(other)))

    def spread(leaf: Array) -> Array:
        missing = axes - axes_of(leaf)
        return jax.lax.pcast(leaf, tuple(missing), to="varying") if missing else leaf

    return jax.tree.map(spread, tree) if axes else tree


def where(mask: Array, x: Any, y: Any) -> Any:
    """`jnp.where` over pytrees whose leaves begin with the mask's axes (`y` may lack them); keeps dtypes of `x`."""

    def select(a: Array, b: Array) -> Array:
        return jnp.where(mask.reshape(mask.shape + (1,) * (a.ndim - mask.ndim)), a, b).astype(a.dtype)

    return jax.tree.map(select, x, y)


def dropout_mask(key: Array, rate: float, shape: tuple[int, ...]) -> Array:
    """A boolean mask, True (keep) with probability `1 - rate`."""
    return jax.random.bernoulli(key, 1.0 - rate, shape)
