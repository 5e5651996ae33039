"""The cotangents of a convolution, in forms that XLA's CPU compiler runs fast inside a loop.

JAX's own cotangents are convolutions in other layouts. Inside a loop, XLA's CPU compiler does not rewrite these into
the layouts for which it has fast code, so that they take many times longer than outside, kernels most of all.
"""

from __future__ import annotations

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array


def is_plain(params: dict[str, Any]) -> bool:
    """Returns whether a convolution has channels last, no strides, dilations or groups, and nothing but padding."""
    images, kernel, out = params["dimension_numbers"]
    d = len(images) - 2
    axes = tuple(range(d))
    channels_last = (0, d + 1, *(1 + n for n in axes))
    in_order = (tuple(images), tuple(kernel), tuple(out)) == (channels_last, (d + 1, d, *axes), channels_last)
    ones = ("window_strides", "lhs_dilation", "rhs_dilation")
    alone = params["feature_group_count"] == params["batch_group_count"] == 1
    return in_order and alone and all(set(params[name]) <= {1} for name in ones)


def pull_images(params: dict[str, Any], ct: Array, w: Array, images: Any) -> Array:
    """Returns the cotangent of the images (given for their dtype), a convolution with the flipped kernel."""
    axes = tuple(range(w.ndim - 2))
    padding = [(size - 1 - low, size - 1 - high) for size, (low, high) in _sizes(params, w)]
    numbers, precision = params["dimension_numbers"], params["precision"]
    flipped = jnp.flip(w, axes).swapaxes(-1, -2)
    strides = params["window_strides"]
    return jax.lax.conv_general_dilated(
        ct, flipped, strides, padding, dimension_numbers=numbers, precision=precision
    ).astype(images.dtype)


def pull_kernel(params: dict[str, Any], images: Array, ct: Array, w: Any) -> Array:
    """Returns the cotangent of the kernel (given for its shape and dtype), computed as one product of matrices.

    `images` and `ct` are [time, batch, *shape, channels].
    """
    images, ct = (x.reshape(x.shape[0] * x.shape[1], *x.shape[2:]) for x in (images, ct))
    shape = ct.shape[1:-1]
    padding = [(0, 0, 0), *((low, high, 0) for _, (low, high) in _sizes(params, w)), (0, 0, 0)]
    padded = jax.lax.pad(images, jnp.zeros((), images.dtype), padding)
    patches = [  # one for each position of the kernel
        jax.lax.slice(padded, (0, *at, 0), (images.shape[0], *np.add(at, shape), images.shape[-1]))
        for at in np.ndindex(*w.shape[:-2])
    ]
    places = math.prod(ct.shape[:-1])
    rows = jnp.concatenate(patches, axis=-1).reshape(places, math.prod(w.shape[:-1]))
    product = jax.lax.dot_general(
        rows,
        ct.reshape(places, w.shape[-1]),
        (((0,), (0,)), ((), ())),
        precision=params["precision"],
        preferred_element_type=jnp.promote_types(ct.dtype, jnp.float32),
    )
    return product.reshape(w.shape).astype(w.dtype)


def _sizes(params: dict[str, Any], w: Any) -> Any:
    return zip(w.shape[:-2], params["padding"], strict=True)
