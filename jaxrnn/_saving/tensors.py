"""Arrays of any dtype of JAX as tensors that every reader of safetensors knows, and back.

Complex numbers are stored as pairs of real numbers. All other dtypes that safetensors lacks are stored as bytes. Both
have an additional last axis.
"""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import Array

SAFETENSORS_NAMES = {
    "bool": "BOOL",
    "bfloat16": "BF16",
    "float8_e4m3fn": "F8_E4M3",
    "float8_e5m2": "F8_E5M2",
    **{f"{kind}{bits}": f"{kind[0].upper()}{bits}" for kind in ("int", "uint", "float") for bits in (8, 16, 32, 64)},
}


def to_stored(array: np.ndarray) -> np.ndarray:
    """Returns the array that safetensors stores for an array."""
    array = np.asarray(array, array.dtype.newbyteorder("="), order="C")
    dtype, shape = _stored_form(array.dtype, array.shape)
    return array if dtype == array.dtype else np.frombuffer(array.tobytes(), dtype).reshape(shape)


def from_stored(stored: dict[str, Any], tensor: str, dtype: str, shape: list[int]) -> Array:
    """Returns an array, given the tensors of a file, the name of its tensor, and its own dtype and shape."""
    if tensor not in stored:
        raise ValueError(f"it needs the tensor {tensor}, which is missing")
    found, own_dtype = stored[tensor], np.dtype(getattr(jnp, dtype))
    stored_dtype, stored_shape = _stored_form(own_dtype, tuple(shape))
    expected = SAFETENSORS_NAMES[stored_dtype.name]
    if (found["dtype"], tuple(found["shape"])) != (expected, stored_shape):
        raise ValueError(
            f"the tensor {tensor} must be {expected} {stored_shape}, but it is {found['dtype']} {found['shape']}"
        )
    array = jnp.asarray(np.frombuffer(found["data"], own_dtype).reshape(shape))
    if array.dtype != own_dtype:
        raise ValueError(
            f"the dtype of {tensor} is {dtype}, which JAX supports only after jax.config.update('jax_enable_x64', True)"
        )
    return array


def _stored_form(dtype: np.dtype[Any], shape: tuple[int, ...]) -> tuple[np.dtype[Any], tuple[int, ...]]:
    """Returns the dtype and the shape with which safetensors stores an array."""
    if dtype.name in SAFETENSORS_NAMES:
        return dtype, shape
    unit = jnp.finfo(dtype).dtype if dtype.kind == "c" else np.dtype(np.uint8)
    return unit, (*shape, dtype.itemsize // unit.itemsize)
