"""Shared by the convolutional cells: the shapes of images and kernels, and their checks."""

from __future__ import annotations

from typing import Any

from jax import Array

from jaxrnn import _check as check


def check_shapes(cell: Any) -> None:
    """Checks the arguments `shape` and `kernel_shape` of a convolutional cell."""
    name, shape, kernel = type(cell).__name__, cell.shape, cell.kernel_shape
    if not (_are_sizes(shape) and 1 <= len(shape) <= 3):
        kind = ValueError if isinstance(shape, tuple) else TypeError
        raise kind(f"{name}'s shape must be one to three positive integers such as (28, 28), but it is {shape!r}")
    if not (_are_sizes(kernel_axes(cell)) and len(kernel_axes(cell)) == len(shape)):
        kind = ValueError if isinstance(kernel, tuple) or check.is_integer(kernel) else TypeError
        raise kind(
            f"{name}'s kernel_shape must be a positive integer, or one for each axis of its shape {shape}, "
            f"but it is {kernel!r}"
        )


def kernel_axes(cell: Any) -> tuple[int, ...]:
    """Returns the extent of a cell's kernels in each dimension; one number applies to all dimensions."""
    return cell.kernel_shape if isinstance(cell.kernel_shape, tuple) else (cell.kernel_shape,) * len(cell.shape)


def image_channels(cell: Any, input_size: Any) -> int:
    """Returns the number of channels of an input size (*shape, channels)."""
    if not isinstance(input_size, tuple) or input_size[:-1] != cell.shape:
        raise ValueError(
            f"{type(cell).__name__}'s input_size must be its shape {cell.shape} and the number of channels, "
            f"such as {(*cell.shape, 3)}, but it is {input_size!r}"
        )
    return input_size[-1]


def check_images(cell: Any, x: Array, w: Array) -> None:
    """Checks that an input fits a convolutional cell with the kernel `w`."""
    name, expected = type(cell).__name__, (*cell.shape, w.shape[-2])
    check.numbers(cell, x, "reads images", "cast integer images to a float dtype, or put an Embedding before it")
    if (ends := x.shape[-len(expected) :]) != expected:
        raise ValueError(
            f"the last axes of {name}'s input must be its shape and the channels of its parameters, {expected}, "
            f"but the input's shape ends in {ends}"
        )


def _are_sizes(axes: Any) -> bool:
    return isinstance(axes, tuple) and all(check.is_integer(size) and size > 0 for size in axes)
