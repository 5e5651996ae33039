"""The state of one sequence as the bytes of a safetensors file, and back."""

from __future__ import annotations

from typing import Any

import jax
import numpy as np

from jaxrnn._names import names_along
from jaxrnn._tensor_files import check_intact, form_in_file, from_stored, read, write
from jaxrnn.layer import State

ABOUT = {"format": 1}


def to_bytes(state: State) -> bytes:
    """Returns a safetensors file with the leaves of a state under their names."""
    leaves = jax.tree_util.tree_leaves_with_path(state)
    return write({"/".join(names_along(path)): np.asarray(leaf) for path, leaf in leaves}, ABOUT)


def from_bytes(data: bytes, like: State) -> State:
    """Returns the state from which `to_bytes` made `data`; it must have the names, shapes and dtypes of `like`."""
    if not isinstance(data, bytes | bytearray | memoryview):
        raise TypeError(f"state must be bytes, as state and evict return them, but it is {data!r}")
    try:
        about, given = read(bytes(data))
        if about is not None and check_intact(about, given) != ABOUT:  # None: an older version wrote no metadata
            raise ValueError("not a state of this version of jaxrnn")
    except ValueError as error:
        raise ValueError(f"state must be bytes from state or evict, but they are damaged: {error}") from None
    names_and_leaves = [("/".join(names_along(path)), s) for path, s in jax.tree_util.tree_leaves_with_path(like)]
    expected = _describe({name: form_in_file(np.dtype(s.dtype), s.shape) for name, s in names_and_leaves})
    found = _describe({name: (tensor["dtype"], tensor["shape"]) for name, tensor in given.items()})
    if expected != found:
        raise ValueError(f"state must hold the arrays {expected} of this layer's state, but it holds {found}")
    leaves = [from_stored(given, name, np.dtype(s.dtype).name, s.shape) for name, s in names_and_leaves]
    return jax.tree.unflatten(jax.tree.structure(like), leaves)


def _describe(forms: dict[str, tuple[str, Any]]) -> dict[str, tuple[Any, ...]]:
    return {name: (dtype, *shape) for name, (dtype, shape) in sorted(forms.items())}
