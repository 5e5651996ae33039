"""`save` and `load`: a layer and its parameters in one file, which any reader of safetensors can open."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxrnn._check import described, did_you_mean
from jaxrnn._names import names_along
from jaxrnn._saving.fitting import check_fit, check_leaves
from jaxrnn._saving.json_values import from_json, place_of, to_json, user_names
from jaxrnn._tensor_files import as_jax, check_intact, describe_error, from_stored, read, write
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
      params: Its parameters, as `layer.init` draws them: arrays or numbers in tuples, lists, dicts, NamedTuples and
        dataclasses. They may have been changed by `jaxrnn.weights.normalize`, or have further leading axes, as those of
        an ensemble. A layer that contains your own layers may have any others.

    Raises:
      TypeError: The layer or the parameters contain something that a file cannot hold.
      ValueError: Two arrays or two classes have the same name, the layer is not determined by its fields, or the
        parameters do not fit it.
      ImportError: The package safetensors is not installed.
    """
    _check_layer(layer)
    arrays: dict[str, np.ndarray] = {}
    user_values: list[Any] = []

    def store_array(path: tuple[Any, ...], leaf: Any) -> dict[str, Any]:
        name = "/".join(names_along(path))
        dtype = getattr(getattr(leaf, "dtype", None), "name", "")
        if not isinstance(leaf, Array | np.ndarray | np.generic) or not hasattr(jnp, dtype):
            raise TypeError(
                f"parameters must be arrays of numbers, but {name} is {_describe(leaf)}: a file cannot hold it"
            )
        if name in arrays or name == "__metadata__":
            raise ValueError(f"parameters must have distinct names in the file, but {name} is taken: rename it")
        arrays[name] = np.asarray(leaf)
        return {"tensor": name, "dtype": dtype, "shape": [*np.shape(leaf)]}

    about = {
        "format": FORMAT,
        "layer": to_json(layer, _number_to_json, user_values),
        "params": to_json(params, store_array, user_values),
    }
    if from_json(about["layer"], _refuse_tensor, user_names(user_values), "layer") != layer:
        raise ValueError(f"a layer must be equal to any other with the same fields, but {layer} is not")
    check_leaves(params)
    check_fit(layer, params)
    _replace(Path(os.path.realpath(path)), write(arrays, about))


def load(path: str | os.PathLike[str], *, classes: Iterable[Any] = ()) -> tuple[Any, Params]:
    """Loads a layer and its parameters from a file that `save` wrote.

    The layer is equal to the one that was saved, and the parameters are JAX arrays with the same values and dtypes in
    the same containers. A damaged file raises an error.

    Untrusted files are safe to load and to run. A file may name only jaxrnn's layers, which check their
    arguments as always, activations such as `jax.nn.relu` and other elementwise functions of JAX, and what is given as
    `classes`. The parameters must be arrays that fit the layer. Nothing is unpickled or imported.

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
      classes: Your own classes and functions that the file needs, such as `[MyCell, MyCellParams]`. Functions of other
        packages, such as `jax.numpy.cumsum`, belong here, too.

    Returns:
      The layer and its parameters.

    Raises:
      ValueError: The file is damaged, was not written by `save` or by a newer version of it, needs classes,
        functions or dtypes that are not available, or holds parameters that do not fit the layer.
      TypeError: `classes` holds something other than classes and functions.
      ImportError: The package safetensors is not installed.
    """
    users = user_names(classes)
    data = Path(path).read_bytes()
    try:
        about, tensors = read(data)
        if not about:
            raise ValueError(
                "it was not written by jaxrnn.save, so it holds tensors but no layer: "
                "read them with safetensors.numpy.load_file, and see jaxrnn.convert"
            )
        _check_format(about)
        if (fields := check_intact(about, tensors).keys()) != {"format", "layer", "params"}:
            raise ValueError(f"its metadata must have the fields format, layer and params, but it has {[*fields]}")
        layer = from_json(about["layer"], _refuse_tensor, users, "layer")
        _check_layer(layer)
        params = from_json(about["params"], partial(_read_array, tensors), users, "params")
        check_leaves(params)
        check_fit(layer, params)
    except ImportError:
        raise
    except Exception as error:
        raise ValueError(f"{path} cannot be loaded: {describe_error(error)}") from error
    return layer, params


def _check_format(about: dict[str, Any]) -> None:
    version = about.get("format")
    if type(version) is not int or version < 1:
        raise ValueError(f"the format in its metadata must be a positive integer, but it is {version!r}")
    if version > FORMAT:
        raise ValueError(
            f"its format is {version}, but this version of jaxrnn reads formats up to {FORMAT}: upgrade jaxrnn"
        )


def _read_array(tensors: dict[str, Any], place: str, json: Any) -> Array:
    """Returns the array that a leaf of the parameters in a file refers to."""
    types = {"tensor": str, "dtype": str, "shape": list}
    if json.keys() != types.keys() or not all(isinstance(json[name], kind) for name, kind in types.items()):
        raise ValueError(f"{place} must be a tensor with its dtype and shape, but it is {json!r}")
    name = json["tensor"]
    return as_jax(name, from_stored(tensors, name, json["dtype"], tuple(json["shape"])))


def _check_layer(layer: Any) -> None:
    if not isinstance(layer, Layer | TreeCell):
        raise TypeError(
            f"layer must be a jaxrnn layer or a cell over trees, but it is {described(layer)}{did_you_mean(layer)}"
        )


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


def _refuse_tensor(place: str, json: Any) -> Any:
    raise ValueError(f"a layer must not hold tensors, but {place} is {json!r}")


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
