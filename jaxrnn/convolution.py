"""The cotangents of a convolution, in forms that XLA's CPU compiler runs well inside a loop.

JAX's own are convolutions again, of other layouts. Within a loop XLA's CPU compiler does not turn those into the ones
it has fast code for, so that they take many times as long as out of it, those of kernels most of all.
"""

from __future__ import annotations

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array


def is_plain(params: dict[str, Any]) -> bool:
    """Whether it is of images [batch, *shape, input] and a kernel [*kernel, input, output], and only padded."""
    images, kernel, out = params["dimension_numbers"]
    d = len(images) - 2
    axes = tuple(range(d))
    channels_last = (0, d + 1, *(1 + n for n in axes))
    in_order = (tuple(images), tuple(kernel), tuple(out)) == (channels_last, (d + 1, d, *axes), channels_last)
    ones = ("window_strides", "lhs_dilation", "rhs_dilation")
    alone = params["feature_group_count"] == params["batch_group_count"] == 1
    return in_order and alone and all(set(params[name]) <= {1} for name in ones)


def pull_images(params: dict[str, Any], ct: Array, w: Array, images: Any) -> Array:
    """The cotangent of the images (given for their dtype): a convolution with the kernel turned around."""
    axes = tuple(range(w.ndim - 2))
    padding = [(size - 1 - low, size - 1 - high) for size, (low, high) in _sizes(params, w)]
    numbers, precision = params["dimension_numbers"], params["precision"]
    turned = jnp.flip(w, axes).swapaxes(-1, -2)
    strides = params["window_strides"]
    return jax.lax.conv_general_dilated(
        ct, turned, strides, padding, dimension_numbers=numbers, precision=precision
    ).astype(images.dtype)


def pull_kernel(params: dict[str, Any], images: Array, ct: Array, w: Any) -> Array:
    """The cotangent of the kernel (given for its shape and dtype): one product of matrices.

    `images` and `ct` are [steps, batch, *shape, channels].
    """
    images, ct = (x.reshape(-1, *x.shape[2:]) for x in (images, ct))
    shape = ct.shape[1:-1]
    padding = [(0, 0, 0), *((low, high, 0) for _, (low, high) in _sizes(params, w)), (0, 0, 0)]
    padded = jax.lax.pad(images, jnp.zeros((), images.dtype), padding)
    seen = [  # at each of the kernel's positions
        jax.lax.slice(padded, (0, *at, 0), (images.shape[0], *np.add(at, shape), images.shape[-1]))
        for at in np.ndindex(*w.shape[:-2])
    ]
    rows = jnp.concatenate(seen, axis=-1).reshape(-1, math.prod(w.shape[:-1]))
    product = jax.lax.dot_general(
        rows,
        ct.reshape(-1, w.shape[-1]),
        (((0,), (0,)), ((), ())),
        precision=params["precision"],
        preferred_element_type=ct.dtype,
    )
    return product.reshape(w.shape).astype(w.dtype)


def _sizes(params: dict[str, Any], w: Any) -> Any:
    return zip(w.shape[:-2], params["padding"], strict=True)
