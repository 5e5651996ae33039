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
    "at_last",
    "check_convolution",
    "check_divisor",
    "check_images",
    "check_input_size",
    "convolution",
    "dropout_mask",
    "image_channels",
    "is_symbols",
    "kernel_axes",
    "leading_shape",
    "mod_relu",
    "normalized",
    "num_features",
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


def convolution(x: Array, w: Array, b: Array | None = None) -> Array:
    """The sum over a kernel's positions of `x`, moved by the position, times `w` there, plus `b`.

    In 1, 2 or 3 dimensions. The output has the extent of the input, around which there are zeros; of an even
    number of positions, the one more lies behind. As in all deep learning the kernel is not flipped.

    Args:
      x: [*batch, *shape, input].
      w: [*kernel, input, output].
      b: [output].

    Returns:
      [*batch, *shape, output], of the dtype that the operands promote to.
    """
    dimensions = w.ndim - 2
    batch_shape, image_shape = x.shape[: x.ndim - dimensions - 1], x.shape[x.ndim - dimensions - 1 :]
    axes = "DHW"[-dimensions:]
    dtype = jnp.result_type(x, w)
    y = jax.lax.conv_general_dilated(
        x.reshape(-1, *image_shape).astype(dtype),  # all leading axes are batch axes
        w.astype(dtype),
        window_strides=(1,) * dimensions,
        padding="SAME",
        dimension_numbers=(f"N{axes}C", f"{axes}IO", f"N{axes}C"),
    )
    y = y.reshape(*batch_shape, *y.shape[1:])
    return y if b is None else y + b


def num_features(input_size: Any) -> int:
    """Of an input size of one or several axes, the last."""
    return input_size[-1] if isinstance(input_size, tuple) else input_size


def kernel_axes(layer: Any) -> tuple[int, ...]:
    """A convolutional cell's kernel_shape, of which one number stands for all dimensions."""
    kernel = layer.kernel_shape
    return kernel if isinstance(kernel, tuple) else (kernel,) * len(layer.shape)


def check_convolution(layer: Any) -> None:
    """The arguments `shape` and `kernel_shape` of convolutional cells."""
    name, shape = type(layer).__name__, layer.shape
    if not (_are_sizes(shape) and 1 <= len(shape) <= 3):
        raise ValueError(f"{name}'s shape must be one to three positive integers such as (28, 28), but it is {shape!r}")
    if not (_are_sizes(kernel_axes(layer)) and len(kernel_axes(layer)) == len(shape)):
        raise ValueError(
            f"{name}'s kernel_shape must be a positive integer, or one for each axis of its shape {shape}, "
            f"but it is {layer.kernel_shape!r}"
        )


def image_channels(layer: Any, input_size: Any) -> int:
    """The channels of a convolutional cell's input size, (*shape, channels)."""
    if not isinstance(input_size, tuple) or input_size[:-1] != layer.shape:
        raise ValueError(
            f"{type(layer).__name__}'s input_size must be its shape {layer.shape} and the number of channels, "
            f"such as {(*layer.shape, 3)}, but it is {input_size!r}"
        )
    return input_size[-1]


def check_images(layer: Any, x: Array, w: Array) -> None:
    """That an input is what a convolutional cell with the kernel `w` reads."""
    name, expected = type(layer).__name__, (*layer.shape, w.shape[-2])
    if is_symbols(x):
        raise TypeError(f"{name} reads numbers, but its input is of integers, which are symbols: cast it to floats")
    if (ends := x.shape[-len(expected) :]) != expected:
        raise ValueError(
            f"the last axes of {name}'s input must be its shape and the channels of its parameters, {expected}, "
            f"but the input's shape ends in {ends}"
        )


def _are_sizes(axes: Any) -> bool:
    return isinstance(axes, tuple) and all(type(size) is int and size > 0 for size in axes)


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


def at_last(xs: Array, valid: Array) -> Array:
    """`xs` [time, *batch, ...] at the last step of each sequence, given which steps are valid; if none is, at any."""
    last = jnp.maximum(valid.sum(0) - 1, 0)
    return jnp.take_along_axis(xs, last.reshape(1, *last.shape, *(1,) * (xs.ndim - 1 - last.ndim)), axis=0)[0]


def dropout_mask(key: Array, rate: float, shape: tuple[int, ...]) -> Array:
    """A boolean mask, True (keep) with probability `1 - rate`."""
    return jax.random.bernoulli(key, 1.0 - rate, shape)
