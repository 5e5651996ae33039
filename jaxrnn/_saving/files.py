"""`save` and `load`: a layer and its parameters in one file, which any reader of safetensors can open."""

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

from jaxrnn._check import did_you_mean
from jaxrnn._names import names_along
from jaxrnn._saving.json_values import from_json, place_of, to_json, user_names
from jaxrnn._saving.tensors import from_stored, to_stored
from jaxrnn.layer import Layer, Params
from jaxrnn.trees import TreeCell

FORMAT = 1  # version of the metadata, increased when older versions of jaxrnn would misread a file


def save(path: str | os.PathLike[str], layer: Layer | TreeCell, params: Params) -> None:
    """Saves a layer and its parameters to a safetensors file that `load` can read.

    The tensors have readable names such as `layers_0/w_x` and keep their dtypes; complex numbers have an additional
    axis of size 2 for their real and imaginary parts. The layer and the containers of the parameters are stored as
    JSON in the metadata. An existing file is replaced only when the new one is complete.

    Example:
      >>> import os, tempfile
      >>> path = os.path.join(tempfile.mkdtemp(), "model.safetensors")
      >>> layer = jaxrnn.Stack(jaxrnn.LSTM(64), jaxrnn.Dense(10))
      >>> jaxrnn.save(path, layer, layer.init(jax.random.key(0), input_size=8))
      >>> layer, params = jaxrnn.load(path)
      >>> layer.layers
      (LSTM(hidden_size=64, forget_bias=1.0), Dense(size=10))

    Args:
      path: Path of the file, for instance `model.safetensors`.
      layer: Any layer or any cell over trees, including your own classes. Its fields may be numbers, strings, other
        layers, dataclasses, NamedTuples, functions that have names, and tuples, lists or dicts of them.
      params: Its parameters: arrays in tuples, lists, dicts, NamedTuples and dataclasses.

    Raises:
      TypeError: The layer or the parameters contain something that a file cannot hold.
      ValueError: Two arrays or two classes have the same name, or the layer is not determined by its fields.
      ImportError: The package safetensors is not installed.
    """
    write_safetensors = _safetensors().numpy.save
    _check_layer(layer)
    tensors: dict[str, np.ndarray] = {}
    user_values: list[Any] = []

    def store_array(path: tuple[Any, ...], leaf: Any) -> dict[str, Any]:
        name = "/".join(names_along(path))
        dtype = getattr(getattr(leaf, "dtype", None), "name", "")
        if not isinstance(leaf, Array | np.ndarray | np.generic) or not hasattr(jnp, dtype):
            raise TypeError(
                f"parameters must be arrays of numbers, but {name} is {_describe(leaf)}: a file cannot hold it"
            )
        if name in tensors or name == "__metadata__":
            raise ValueError(f"parameters must have distinct names in the file, but {name} is taken: rename it")
        tensors[name] = to_stored(np.asarray(leaf))
        return {"tensor": name, "dtype": dtype, "shape": [*np.shape(leaf)]}

    about = {
        "format": FORMAT,
        "layer": to_json(layer, _number_to_json, user_values),
        "params": to_json(params, store_array, user_values),
    }
    if from_json(about["layer"], _refuse_tensor, user_names(user_values)) != layer:
        raise ValueError(f"a layer must be equal to any other with the same fields, but {layer} is not")
    data = write_safetensors(tensors, {"jaxrnn": json.dumps(about, allow_nan=False)})
    _replace(Path(os.path.realpath(path)), data)


def load(path: str | os.PathLike[str], *, classes: Iterable[Any] = ()) -> tuple[Any, Params]:
    """Loads a layer and its parameters from a file that `save` wrote.

    The layer is equal to the one that was saved, and the parameters are JAX arrays with the same values and dtypes in
    the same containers. Untrusted files are safe to load: the only classes and functions that are ever called are
    those of jaxrnn, `jax.numpy` and `jax.nn` and those given as `classes`, with the values in their fields. Nothing is
    unpickled or imported.

    Example:
      >>> import os, tempfile
      >>> path = os.path.join(tempfile.mkdtemp(), "model.safetensors")
      >>> cell = jaxrnn.GRU(64)
      >>> jaxrnn.save(path, cell, cell.init(jax.random.key(0), input_size=8))
      >>> layer, params = jaxrnn.load(path)
      >>> layer == cell, params.w_x.shape
      (True, (8, 192))

    Args:
      path: Path of the file.
      classes: Your own classes and functions that the file needs, such as `[MyCell, MyCellParams]`.

    Returns:
      The layer and its parameters.

    Raises:
      ValueError: The file is damaged, was not written by `save` or by a newer version of it, or needs classes,
        functions or dtypes that are not available.
      TypeError: `classes` holds something other than classes and functions.
      ImportError: The package safetensors is not installed.
    """
    users = user_names(classes)
    about, stored = _read(path)
    try:
        if about["format"] > FORMAT:
            raise ValueError(
                f"its format is {about['format']}, but this version of jaxrnn reads formats up to {FORMAT}: "
                "upgrade jaxrnn"
            )
        layer = from_json(about["layer"], _refuse_tensor, users)
        params = from_json(about["params"], lambda leaf: from_stored(stored, **leaf), users)
        _check_layer(layer)
    except Exception as error:
        reason = error if isinstance(error, ValueError | TypeError) else f"it is damaged, {error!r}"
        raise ValueError(f"{path} cannot be loaded: {reason}") from error
    return layer, params


def _read(path: str | os.PathLike[str]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Returns the metadata, and the tensors as safetensors describes them: with dtype, shape and data."""
    deserialize, data = _safetensors().deserialize, Path(path).read_bytes()
    try:
        stored = dict(deserialize(data))
        metadata = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")]).get("__metadata__", {})
    except Exception as error:
        raise ValueError(f"{path} is not a complete safetensors file: {error}") from error
    if "jaxrnn" not in metadata:
        raise ValueError(
            f"{path} was not written by jaxrnn.save, so it holds tensors but no layer: "
            "read them with safetensors.numpy.load_file, and see jaxrnn.convert"
        )
    try:
        return json.loads(metadata["jaxrnn"]), stored
    except ValueError as error:
        raise ValueError(f"{path} is damaged, its metadata cannot be read: {error}") from error


def _safetensors() -> Any:
    try:
        import safetensors.numpy
    except ImportError as error:
        raise ImportError("save and load need the package safetensors: pip install 'jaxrnn[save]'") from error
    return safetensors


def _check_layer(layer: Any) -> None:
    if not isinstance(layer, Layer | TreeCell):
        raise TypeError(f"layer must be a jaxrnn layer or a cell over trees, but it is {layer!r}{did_you_mean(layer)}")


def _number_to_json(path: tuple[Any, ...], value: Any) -> Any:
    """Converts a NumPy number among a layer's fields to the equal Python number."""
    if isinstance(value, np.generic) and isinstance(number := value.item(), bool | int | float | complex):
        return to_json(number, _number_to_json, [])
    raise TypeError(
        "a layer's fields must be values such as numbers, tuples, dataclasses and functions, "
        f"but {place_of(path)} is {_describe(value)}: a file cannot hold it"
    )


def _describe(value: Any) -> str:
    return f"an array of {value.dtype}" if hasattr(value, "dtype") else repr(value)


def _refuse_tensor(leaf: Any) -> Any:
    raise ValueError(f"a layer must not hold tensors, but it holds {leaf!r}")


def _replace(path: Path, data: bytes) -> None:
    """Writes a file under another name first, so that there is never an incomplete one at the path."""
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
