"""Layers and the containers of parameters as JSON, and back.

Classes and functions are represented by their names, and looked up among those that are known: nothing is imported or
unpickled. A file of unknown origin may name only jaxrnn's own dataclasses and NamedTuples, whose constructors check
their arguments, and functions of arrays that cannot do anything but compute: `KNOWN` lists them all.
"""

from __future__ import annotations

import dataclasses
import inspect
import math
import operator
from collections.abc import Callable, Iterable
from typing import Any

import jax
import jax.numpy as jnp
from jax.tree_util import DictKey, GetAttrKey, SequenceKey

from jaxrnn import cells, initializers, layers, loops, trees, wrappers
from jaxrnn._adopt import Adopted
from jaxrnn._names import names_along
from jaxrnn._tensor_files import describe_error
from jaxrnn.cells import s4d
from jaxrnn.convert import keras
from jaxrnn.weights import Normalized

PACKAGES = (cells, layers, wrappers, loops, trees, initializers)
MAX_DEPTH = 100  # of values inside each other, far below Python's limit of recursion

# Functions of JAX that a layer may need: activations, other functions of one number, and functions that merge two.
ACTIVATIONS = (
    "celu elu gelu glu hard_sigmoid hard_silu hard_swish hard_tanh identity leaky_relu log_sigmoid log_softmax mish "
    "relu relu6 selu sigmoid silu soft_sign softmax softplus sparse_plus sparse_sigmoid squareplus standardize swish "
    "tanh"
)
ELEMENTWISE = (
    "abs absolute arcsinh arctan asinh atan cbrt cos cosh exp exp2 expm1 log log1p log2 negative positive reciprocal "
    "sign sin sinc sinh sqrt square tan tanh"
)
MERGES = "add divide hypot logaddexp maximum minimum multiply subtract"


def _public(*modules: Any) -> dict[str, Any]:
    """Returns the public classes and functions of modules by their names."""
    found = {name: value for module in modules for name, value in vars(module).items() if callable(value)}
    return {name: value for name, value in found.items() if not name.startswith("_")}


def _named(module: Any, names: str) -> dict[str, Any]:
    """Returns those functions of a module that this version of it has."""
    return {name: getattr(module, name) for name in names.split() if hasattr(module, name)}


def _is_ours(value: Any) -> bool:
    return getattr(value, "__module__", "").split(".")[0] == "jaxrnn"


def _ours() -> dict[str, Any]:
    """Returns jaxrnn's dataclasses and NamedTuples, and its functions that their fields may hold.

    These are the defaults of fields, the alternatives of S4D, and the activations and merges of converted layers.
    """
    classes = {name: kind for name, kind in _public(*PACKAGES).items() if _is_ours(kind) and _fields(kind) is not None}
    classes |= {"Adopted": Adopted, "Normalized": Normalized}
    defaults = [getattr(kind, field, None) for kind in classes.values() for field in _fields(kind) or ()]
    functions = [value for value in defaults if inspect.isfunction(value) and _is_ours(value)]
    functions += [s4d.s4d_inv, s4d.bilinear, keras.hard_sigmoid, keras.average]
    return classes | {value.__name__: value for value in functions}


def _fields(kind: Any) -> list[str] | None:
    """Returns the names of the fields that determine a value of a class, or None if it is not such a class."""
    if not isinstance(kind, type):
        return None
    if dataclasses.is_dataclass(kind):
        init = kind.__dataclass_params__.init  # type: ignore[attr-defined]
        return [field.name for field in dataclasses.fields(kind) if field.init or not init]
    return list(getattr(kind, "_fields", ())) if issubclass(kind, tuple) and hasattr(kind, "_fields") else None


def _parameters(kind: type) -> dict[str, inspect.Parameter]:
    """Returns the parameters of a class's constructor by their names."""
    return dict(inspect.signature(kind).parameters)


# What a file may name, by namespace. "jaxrnn" is a single namespace for the whole package, so that modules can move
# without making older files unreadable.
KNOWN = {
    "jaxrnn": _ours(),
    "jax.numpy": _named(jnp, f"{ELEMENTWISE} {MERGES}")
    | {name: value for name, value in _public(jnp).items() if isinstance(value, type(jnp.float32))},  # dtypes
    "jax.nn": _named(jax.nn, ACTIVATIONS),
    "operator": _named(operator, "add mul sub"),
}

Leaf = Callable[[tuple[Any, ...], Any], Any]


def user_names(values: Iterable[Any]) -> dict[str, Any]:
    """Returns the user's own classes and functions by the names that they have in a file."""
    if not isinstance(values, Iterable):
        raise TypeError(f"classes must be a list of classes and functions, but it is {values!r}")
    named: dict[str, Any] = {}
    for value in values:
        name = getattr(value, "__name__", None)
        if name is None or not callable(value):
            raise TypeError(f"classes must hold classes and functions, but it holds {value!r}")
        if named.setdefault(name, value) is not value:
            raise ValueError(
                f"classes and functions must have distinct names in a file, but two are called {name}: rename one"
            )
    return named


def to_json(value: Any, leaf: Leaf, user_values: list[Any], path: tuple[Any, ...] = ()) -> Any:
    """Converts a value to JSON.

    Args:
      value: Numbers, strings, tuples, lists, dicts, NamedTuples, dataclasses, and functions and classes with names.
      leaf: Converts anything else, given its path and the value.
      user_values: A list to which all classes and functions are added that are not `KNOWN`.
      path: JAX's keys from the root to this value.
    """
    if len(path) > MAX_DEPTH:
        raise ValueError(f"values in a file must not be nested deeper than {MAX_DEPTH} levels, but {place_of(path)} is")
    if value is None or type(value) in (bool, int, str):
        return value
    if type(value) is float:
        return value if math.isfinite(value) else {"float": repr(value)}
    if type(value) is complex:
        return {"complex": [to_json(part, leaf, user_values, path) for part in (value.real, value.imag)]}
    if type(value) in (tuple, list):
        entries = [to_json(entry, leaf, user_values, (*path, SequenceKey(n))) for n, entry in enumerate(value)]
        return entries if type(value) is list else {"tuple": entries}
    if type(value) is dict:
        entries = []
        for key, entry in value.items():
            json_key = to_json(key, _refuse_key, user_values, path)
            entries.append([json_key, to_json(entry, leaf, user_values, (*path, DictKey(key)))])
        return {"dict": entries}
    if (fields := _fields(type(value))) is not None:
        named = {name: to_json(getattr(value, name), leaf, user_values, (*path, GetAttrKey(name))) for name in fields}
        return {"class": _name_in_file(type(value), user_values, path), "fields": named}
    if callable(value) and hasattr(value, "__name__"):
        return {"name": _name_in_file(value, user_values, path)}
    return leaf(path, value)


def from_json(json: Any, leaf: Callable[[str, Any], Any], users: dict[str, Any], place: str) -> Any:
    """Converts JSON from `to_json` to the value.

    Args:
      json: The JSON.
      leaf: Converts what the `leaf` of `to_json` returned, given its place and the JSON.
      users: The user's own classes and functions, from `user_names`.
      place: The name of the whole value, with which the place of an error begins.

    Raises:
      ValueError: The JSON needs what is not known, or was not written by `to_json`.
    """

    def read(json: Any, place: str, depth: int = 0) -> Any:
        def read_all(entries: Any) -> list[Any]:
            if not isinstance(entries, list):
                raise ValueError(f"{place} must be a list, but it is {entries!r}")
            return [read(entry, f"{place}/layers_{n}", depth + 1) for n, entry in enumerate(entries)]

        if depth > MAX_DEPTH:
            raise ValueError(f"{place} must not be nested deeper than {MAX_DEPTH} levels")
        if json is None or isinstance(json, bool | int | float | str):
            return json
        if isinstance(json, list):
            return read_all(json)
        if json.keys() == {"class", "fields"}:
            kind, fields = _look_up(json["class"], users, place), json["fields"]
            if not isinstance(fields, dict):
                raise ValueError(f"{place}'s fields must be a JSON object, but they are {fields!r}")
            return _build(
                kind, {name: read(entry, f"{place}/{name}", depth + 1) for name, entry in fields.items()}, place
            )
        ((kind, content),) = json.items() if len(json) == 1 else [("", None)]
        if kind == "float" and content in ("inf", "-inf", "nan"):
            return float(content)
        if kind == "tuple":
            return tuple(read_all(content))
        if kind == "name":
            return _look_up(content, users, place)
        if kind == "complex":
            parts = read_all(content)
            if len(parts) != 2 or not all(isinstance(part, int | float) for part in parts):
                raise ValueError(f"{place} must be a real and an imaginary part, but it is {parts!r}")
            return complex(*parts)
        if kind == "dict":
            if not isinstance(content, list) or not all(isinstance(pair, list) and len(pair) == 2 for pair in content):
                raise ValueError(f"{place} must be pairs of a key and a value, but it is {content!r}")
            keys = [read(key, place, depth + 1) for key, _ in content]
            if not all(map(_is_key, keys)):
                raise ValueError(
                    f"the keys of {place} must be numbers, strings or tuples of them, but they are {keys!r}"
                )
            return {key: read(pair[1], f"{place}/{key}", depth + 1) for key, pair in zip(keys, content, strict=True)}
        return leaf(place, json)

    return read(json, place)


def _is_key(value: Any) -> bool:
    """Returns whether a value may be the key of a dict in a file."""
    if isinstance(value, tuple):
        return all(map(_is_key, value))
    return value is None or isinstance(value, bool | int | float | complex | str)


def place_of(path: tuple[Any, ...]) -> str:
    """Returns the name of the value at a path, for messages."""
    return "/".join(names_along(path)) if path else "the whole value"


def _refuse_key(path: tuple[Any, ...], key: Any) -> Any:
    raise TypeError(f"the keys of dicts must be numbers, strings or tuples of them, but one is {key!r}: convert it")


def _build(kind: Any, values: dict[str, Any], place: str) -> Any:
    """Makes a value from its fields by its constructor. Fields that are newer than the file have their defaults."""
    if (fields := _fields(kind)) is None:
        raise ValueError(f"{place}: {kind!r} is neither a dataclass nor a NamedTuple")
    if unknown := values.keys() - set(fields):
        raise ValueError(
            f"{place}: {kind.__name__} has no field {', '.join(sorted(unknown))} here: it was saved by another version"
        )
    try:
        parameters = _parameters(kind)
        needed = {name for name, parameter in parameters.items() if parameter.default is parameter.empty}
        if missing := needed & set(fields) - values.keys():
            raise ValueError(f"{kind.__name__} needs the field {', '.join(sorted(missing))}, which is missing")
        if untaken := values.keys() - parameters.keys():
            raise TypeError(
                f"{kind.__name__}'s constructor must take all fields, but it lacks {', '.join(sorted(untaken))}: "
                "give it a parameter of the same name"
            )
        unpacked = [name for name in values if parameters[name].kind is inspect.Parameter.VAR_POSITIONAL]
        for name in unpacked:
            if not isinstance(values[name], tuple | list):
                raise ValueError(f"{kind.__name__}'s {name} must be a tuple, but it is {values[name]!r}")
        if unpacked:  # as in Stack(*layers)
            bound = inspect.BoundArguments(inspect.signature(kind), values)  # type: ignore[arg-type]
            return kind(*bound.args, **bound.kwargs)
        return kind(**values)
    except Exception as error:
        raise ValueError(f"{place}: {describe_error(error)}") from error


def _name_in_file(value: Any, user_values: list[Any], path: tuple[Any, ...]) -> str:
    """Returns the name of a class or function in a file, and adds it to `user_values` unless it is `KNOWN`."""
    for namespace, known in KNOWN.items():
        for name, other in known.items():
            if other is value:
                return f"{namespace}.{name}"
    if not value.__name__.isidentifier():
        raise TypeError(f"functions must have names to be saved, but {place_of(path)} is {value!r}: define it with def")
    user_values.append(value)
    return value.__name__


def _look_up(name: Any, users: dict[str, Any], place: str) -> Any:
    """Returns the class or function with a name in a file."""
    if not isinstance(name, str):
        raise ValueError(f"{place} must be the name of a class or function, but it is {name!r}")
    namespace, _, last = name.rpartition(".")
    if namespace and last in KNOWN.get(namespace, {}):
        return KNOWN[namespace][last]
    if namespace in ("", "jax.numpy", "jax.nn") and last in users:  # an older version knew all functions of JAX
        return users[last]
    hint = "the file was written by another version"
    if namespace in ("jax.numpy", "jax.nn"):
        hint = f"if you trust the file, add it, as in classes=[{name}, ...]"
    elif not namespace:
        hint = f"give your own classes and functions, as in classes=[{last}, ...]"
    raise ValueError(f"{place}: it needs {name}, which is not known here: {hint}")
