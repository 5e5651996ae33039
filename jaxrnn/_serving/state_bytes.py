"""The state of one sequence as the bytes of a safetensors file, and back."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxrnn._names import names_along
from jaxrnn.layer import State


def to_bytes(state: State) -> bytes:
    """Returns a safetensors file with the leaves of a state under their names; complex numbers are stored as pairs."""
    return _safetensors().numpy.save(_named_arrays(state))


def from_bytes(data: bytes, like: State) -> State:
    """Returns the state from which `to_bytes` made `data`; it must have the names, shapes and dtypes of `like`."""
    if not isinstance(data, bytes | bytearray | memoryview):
        raise TypeError(f"state must be bytes, as state and evict return them, but it is {data!r}")
    safetensors = _safetensors()
    try:
        given = dict(safetensors.deserialize(bytes(data)))
    except safetensors.SafetensorError as error:
        raise ValueError(f"state must be bytes from state or evict, but they are damaged: {error}") from None
    zeros = jax.tree.map(lambda s: np.zeros(s.shape, s.dtype), like)
    expected, found = (_forms(tensors) for tensors in (dict(safetensors.deserialize(to_bytes(zeros))), given))
    if expected != found:
        raise ValueError(f"state must hold the arrays {expected} of this layer's state, but it holds {found}")
    return jax.tree_util.tree_map_with_path(
        lambda path, s: np.frombuffer(given["/".join(names_along(path))]["data"], s.dtype).reshape(s.shape), zeros
    )


def _forms(tensors: dict[str, Any]) -> dict[str, tuple[Any, ...]]:
    """Returns the dtype and the shape of each tensor."""
    return {name: (tensor["dtype"], *tensor["shape"]) for name, tensor in sorted(tensors.items())}


def _named_arrays(state: State) -> dict[str, np.ndarray]:
    named = {}
    for path, leaf in jax.tree_util.tree_leaves_with_path(state):
        array = np.asarray(leaf, order="C")
        if array.dtype.kind == "c":
            array = array[..., None].view(jnp.finfo(array.dtype).dtype)
        named["/".join(names_along(path))] = array
    return named


def _safetensors() -> Any:
    try:
        import safetensors.numpy
    except ImportError:
        raise ImportError(
            "the states of a Stream as bytes need the package safetensors: pip install 'jaxrnn[save]'"
        ) from None
    return safetensors
