"""Named arrays and a description as the bytes of a safetensors file with a checksum, and back.

Arrays of all dtypes of JAX become tensors that every reader of safetensors knows. Complex numbers are stored as pairs
of real numbers. All other dtypes that safetensors lacks are stored as bytes. Both have an additional last axis.

The description is JSON in the metadata. Its field `sha256` is the checksum of all its other fields and of the names,
dtypes, shapes and contents of all tensors.
"""

from __future__ import annotations

import hashlib
import json
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


def write(arrays: dict[str, np.ndarray], about: dict[str, Any]) -> bytes:
    """Returns a safetensors file with these arrays and this description, which must be JSON."""
    write_safetensors = _safetensors().numpy.save
    tensors = {name: _to_stored(array) for name, array in arrays.items()}
    described = {
        name: {
            "dtype": SAFETENSORS_NAMES[tensor.dtype.name],
            "shape": [*tensor.shape],
            "data": tensor.reshape(-1).view(np.uint8),
        }
        for name, tensor in tensors.items()
    }
    about = {**about, "sha256": _checksum(about, described)}
    return write_safetensors(tensors, {"jaxrnn": json.dumps(about, allow_nan=False)})


def read(data: bytes) -> tuple[dict[str, Any] | None, dict[str, Any]]:
    """Returns the description in a safetensors file, and its tensors with their dtypes, shapes and data.

    The description is None if there is no metadata, and empty if the metadata is that of another program.

    Raises:
      ValueError: The file is incomplete or its description cannot be read.
    """
    deserialize = _safetensors().deserialize
    try:
        tensors = dict(deserialize(data))
        metadata = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")]).get("__metadata__")
    except Exception as error:
        raise ValueError(f"not a complete safetensors file: {describe_error(error)}") from error
    if not metadata or "jaxrnn" not in metadata:
        return metadata and {}, tensors
    try:
        about = json.loads(metadata["jaxrnn"])
    except (ValueError, RecursionError) as error:
        raise ValueError(f"its metadata cannot be read: {describe_error(error)}") from error
    if not isinstance(about, dict):
        raise ValueError(f"its metadata must be a JSON object, but it is {about!r}")
    return about, tensors


def check_intact(about: dict[str, Any], tensors: dict[str, Any]) -> dict[str, Any]:
    """Compares a file with its checksum, which older versions did not write; returns the other fields of `about`.

    Raises:
      ValueError: The description or a tensor has changed since the file was written.
    """
    others = {name: value for name, value in about.items() if name != "sha256"}
    if "sha256" in about and about["sha256"] != _checksum(others, tensors):
        raise ValueError("it is damaged, its contents do not match its checksum")
    return others


def from_stored(tensors: dict[str, Any], name: str, dtype: str, shape: tuple[int, ...]) -> np.ndarray:
    """Returns an array, given the tensors of a file, the name of its tensor, and its own dtype and shape."""
    if name not in tensors:
        raise ValueError(f"it needs the tensor {name}, which is missing")
    scalar = getattr(jnp, dtype, None)
    if not isinstance(scalar, type(jnp.float32)):
        raise ValueError(f"the dtype of {name} must be one of jax.numpy, but it is {dtype!r}")
    found, own_dtype = tensors[name], np.dtype(scalar)
    expected = form_in_file(own_dtype, shape)
    if (found["dtype"], tuple(found["shape"])) != expected:
        raise ValueError(
            f"the tensor {name} must be {expected[0]} {expected[1]}, but it is {found['dtype']} {found['shape']}"
        )
    return np.frombuffer(found["data"], own_dtype).reshape(shape)


def form_in_file(dtype: np.dtype[Any], shape: tuple[int, ...]) -> tuple[str, tuple[int, ...]]:
    """Returns safetensors' name for the dtype, and the shape, of the tensor that holds an array."""
    stored_dtype, stored_shape = _stored_form(dtype, shape)
    return SAFETENSORS_NAMES[stored_dtype.name], stored_shape


def as_jax(name: str, array: np.ndarray) -> Array:
    """Returns a JAX array of the same dtype."""
    converted = jnp.asarray(array)
    if converted.dtype != array.dtype:
        raise ValueError(
            f"the dtype of {name} is {array.dtype}, "
            "which JAX supports only after jax.config.update('jax_enable_x64', True)"
        )
    return converted


def describe_error(error: Exception) -> str:
    """Returns the message of an exception in one line that is not too long to read."""
    message = " ".join(str(error).split())
    if not isinstance(error, ValueError | TypeError) or isinstance(error, UnicodeError) or not message:
        message = f"{type(error).__name__}: {message}"
    return message if len(message) <= 1000 else f"{message[:997]}..."


def _checksum(about: dict[str, Any], tensors: dict[str, Any]) -> str:
    """Returns the SHA-256 of a description and of tensors, which have a dtype, a shape and data."""
    digest = hashlib.sha256(json.dumps(about, sort_keys=True).encode())
    for name, tensor in sorted(tensors.items()):
        digest.update(json.dumps([name, tensor["dtype"], [*tensor["shape"]]]).encode())
        digest.update(tensor["data"])
    return digest.hexdigest()


def _to_stored(array: np.ndarray) -> np.ndarray:
    """Returns the array that safetensors stores for an array."""
    array = np.asarray(array, array.dtype.newbyteorder("="), order="C")
    dtype, shape = _stored_form(array.dtype, array.shape)
    return array if dtype == array.dtype else np.frombuffer(array.tobytes(), dtype).reshape(shape)


def _stored_form(dtype: np.dtype[Any], shape: tuple[int, ...]) -> tuple[np.dtype[Any], tuple[int, ...]]:
    """Returns the dtype and the shape with which safetensors stores an array."""
    if dtype.name in SAFETENSORS_NAMES:
        return dtype, shape
    unit = jnp.finfo(dtype).dtype if dtype.kind == "c" else np.dtype(np.uint8)
    return unit, (*shape, dtype.itemsize // unit.itemsize)


def _safetensors() -> Any:
    try:
        import safetensors.numpy
    except ImportError as error:
        raise ImportError(
            "save, load and the bytes of a Stream need the package safetensors: pip install 'jaxrnn[save]'"
        ) from error
    return safetensors
