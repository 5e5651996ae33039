"""`save` and `load`: a layer with its parameters in one file, which any reader of safetensors can open."""

from __future__ import annotations

import json
import os
import uuid
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxrnn._names import names
from jaxrnn._saving.values import from_json, own_names, to_json, where
from jaxrnn.layer import Layer, Params
from jaxrnn.trees import TreeCell

FORMAT = 1  # of what stands in the metadata; to be raised when older readers would misread a file

STORED = {  # what every reader of safetensors knows; complex numbers are stored as pairs, all other dtypes as bytes
    "bool": "BOOL",
    "bfloat16": "BF16",
    "float8_e4m3fn": "F8_E4M3",
    "float8_e5m2": "F8_E5M2",
    **{f"{kind}{bits}": f"{kind[0].upper()}{bits}" for kind in ("int", "uint", "float") for bits in (8, 16, 32, 64)},
}


def save(path: str | os.PathLike[str], layer: Layer | TreeCell, params: Params) -> None:
    """Writes a layer with its parameters to a safetensors file, from which `load` makes both again.

    The tensors stand under readable names such as `layers_0/w_x`, in their own dtypes, complex numbers with an axis of
    two for their parts; the layer and the containers of the parameters are JSON in the metadata. The file is
    complete or not there: a file that stood there before is replaced at the very end.

    Args:
      path: of the file, for instance `model.safetensors`.
      layer: any layer, also a user's own, whose fields are numbers, strings, other layers, dataclasses, NamedTuples,
        tuples, lists or dicts of such, and functions with names.
      params: its parameters: arrays in tuples, lists, dicts, NamedTuples and dataclasses.

    Raises:
      TypeError: something of it has no place in a file.
      ValueError: two arrays or two classes would have the same name, or the layer is not what its fields say.
      ImportError: the package safetensors is missing.
    """
    from_numpy = _safetensors().numpy.save
    _check_layer(layer)
    tensors: dict[str, np.ndarray] = {}
    own: list[Any] = []

    def tensor(path: tuple[Any, ...], leaf: Any) -> dict[str, Any]:
        name = "/".join(names(path))
        dtype = getattr(getattr(leaf, "dtype", None), "name", "")
        if not isinstance(leaf, Array | np.ndarray | np.generic) or not hasattr(jnp, dtype):
            raise TypeError(f"parameters must be arrays of numbers, but {name} is {_kind(leaf)}: a file cannot hold it")
        if name in tensors or name == "__metadata__":
            raise ValueError(f"parameters must have names of their own in the file, but {name} is taken: rename it")
        tensors[name] = _to_stored(np.asarray(leaf))
        return {"tensor": name, "dtype": dtype, "shape": [*np.shape(leaf)]}

    about = {"format": FORMAT, "layer": to_json(layer, _plain, own), "params": to_json(params, tensor, own)}
    if from_json(about["layer"], _no_tensor, own_names(own)) != layer:
        raise ValueError(
            f"a layer must be made of its fields alone, but one made of those of {layer} is not equal to it"
        )
    data = from_numpy(tensors, {"jaxrnn": json.dumps(about, allow_nan=False)})
    _replace(Path(os.path.realpath(path)), data)


def load(path: str | os.PathLike[str], *, classes: Iterable[Any] = ()) -> tuple[Any, Params]:
    """Reads a layer and its parameters from a file that `save` wrote.

    The layer is equal to the one saved, and the parameters are JAX arrays of the same values and dtypes in the same
    containers. Files of strangers are safe to load: only classes and functions of jaxrnn, `jax.numpy` and `jax.nn`, and
    those given here, are ever called, with what their fields hold; nothing is unpickled or imported.

    Args:
      path: of the file.
      classes: the user's own classes and functions that the file needs, such as `[MGU, MGUParams]`.

    Returns:
      The layer and its parameters.

    Raises:
      ValueError: the file is damaged, of another program or of a newer jaxrnn, or it needs what is not known here.
      TypeError: `classes` holds something else.
      ImportError: the package safetensors is missing.
    """
    own = own_names(classes)
    about, stored = _read(path)
    try:
        if about["format"] > FORMAT:
            raise ValueError(f"its format is {about['format']}, but this jaxrnn reads up to {FORMAT}: upgrade jaxrnn")
        layer = from_json(about["layer"], _no_tensor, own)
        params = from_json(about["params"], lambda leaf: _from_stored(stored, **leaf), own)
        _check_layer(layer)
    except Exception as error:
        reason = error if isinstance(error, ValueError | TypeError) else f"it is damaged, {error!r}"
        raise ValueError(f"{path} cannot be loaded: {reason}") from error
    return layer, params


def _read(path: str | os.PathLike[str]) -> tuple[dict[str, Any], dict[str, Any]]:
    """What the metadata say, and the tensors as safetensors gives them: their dtypes, shapes and bytes."""
    deserialize, data = _safetensors().deserialize, Path(path).read_bytes()
    try:
        stored = dict(deserialize(data))
        metadata = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")]).get("__metadata__", {})
    except Exception as error:
        raise ValueError(f"{path} is not a safetensors file, or only a part of one: {error}") from error
    if "jaxrnn" not in metadata:
        raise ValueError(
            f"{path} was not written by jaxrnn.save, so that it holds tensors but no layer: "
            "read them by safetensors.numpy.load_file, or see jaxrnn.convert"
        )
    try:
        return json.loads(metadata["jaxrnn"]), stored
    except ValueError as error:
        raise ValueError(f"{path} is damaged, its metadata cannot be read: {error}") from error


def _safetensors() -> Any:
    try:
        import safetensors.numpy
    except ImportError as error:
        raise ImportError("files need the package safetensors: pip install 'jaxrnn[save]'") from error
    return safetensors


def _check_layer(layer: Any) -> None:
    if not isinstance(layer, Layer | TreeCell):
        hint = f": did you mean {layer.__name__}(...)?" if isinstance(layer, type) else ""
        raise TypeError(f"a file holds a jaxrnn layer or a cell over trees, but this is {layer!r}{hint}")


def _plain(path: tuple[Any, ...], value: Any) -> Any:
    """A number of NumPy's among a layer's fields: equal to Python's."""
    if isinstance(value, np.generic) and isinstance(number := value.item(), bool | int | float | complex):
        return to_json(number, _plain, [])
    raise TypeError(
        "a layer's fields must be values such as numbers, tuples, dataclasses and functions, "
        f"but {where(path)} is {_kind(value)}: a file cannot hold it"
    )


def _kind(value: Any) -> str:
    return f"an array of {value.dtype}" if hasattr(value, "dtype") else repr(value)


def _no_tensor(leaf: Any) -> Any:
    raise ValueError(f"a layer holds no {leaf!r}")


def _form(dtype: np.dtype[Any], shape: tuple[int, ...]) -> tuple[np.dtype[Any], tuple[int, ...]]:
    """The dtype and the shape under which safetensors has an array."""
    if dtype.name in STORED:
        return dtype, shape
    unit = jnp.finfo(dtype).dtype if dtype.kind == "c" else np.dtype(np.uint8)
    return unit, (*shape, dtype.itemsize // unit.itemsize)


def _to_stored(array: np.ndarray) -> np.ndarray:
    array = np.asarray(array, array.dtype.newbyteorder("="), order="C")
    dtype, shape = _form(array.dtype, array.shape)
    return array if dtype == array.dtype else np.frombuffer(array.tobytes(), dtype).reshape(shape)


def _from_stored(stored: dict[str, Any], tensor: str, dtype: str, shape: list[int]) -> Array:
    if tensor not in stored:
        raise ValueError(f"it needs the tensor {tensor}, which is missing")
    there, kind = stored[tensor], np.dtype(getattr(jnp, dtype))
    form, axes = _form(kind, tuple(shape))
    if (there["dtype"], tuple(there["shape"])) != (STORED[form.name], axes):
        raise ValueError(
            f"the tensor {tensor} must be {STORED[form.name]} {axes}, but it is {there['dtype']} {there['shape']}"
        )
    array = jnp.asarray(np.frombuffer(there["data"], kind).reshape(shape))
    if array.dtype != kind:
        raise ValueError(
            f"{tensor} is of {dtype}, which JAX keeps only after jax.config.update('jax_enable_x64', True)"
        )
    return array


def _replace(path: Path, data: bytes) -> None:
    """Writes a file beside the path first, so that there is never half of one at the path."""
    beside = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    try:
        with beside.open("xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        beside.replace(path)
    except BaseException:
        beside.unlink(missing_ok=True)
        raise
