"""Layers and the containers of parameters as JSON, and back.

Classes and functions are represented by their names, and looked up among those that are known: nothing is imported or
unpickled.
"""

from __future__ import annotations

import dataclasses
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
from jaxrnn.weights import Normalized

PACKAGES = (cells, layers, wrappers, loops, trees, initializers)


def _public(*modules: Any) -> dict[str, Any]:
    """Returns the public classes and functions of modules by their names."""
    found = {name: value for module in modules for name, value in vars(module).items() if callable(value)}
    return {name: value for name, value in found.items() if not name.startswith("_")}


def _is_ours(value: Any) -> bool:
    return getattr(value, "__module__", "").split(".")[0] == "jaxrnn"


# What a file may name, by namespace. "jaxrnn" is a single namespace for the whole package, so that modules can move
# without making older files unreadable.
KNOWN = {
    "jaxrnn": {name: value for name, value in _public(*PACKAGES).items() if _is_ours(value)}
    | {"Adopted": Adopted, "Normalized": Normalized},
    "jax.numpy": _public(jnp),
    "jax.nn": _public(jax.nn),
    "operator": {"add": operator.add, "mul": operator.mul},  # merges of two directions
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


def from_json(json: Any, leaf: Callable[[Any], Any], users: dict[str, Any]) -> Any:
    """Converts JSON from `to_json` to the value.

    Args:
      json: The JSON.
      leaf: Converts what the `leaf` of `to_json` returned.
      users: The user's own classes and functions, from `user_names`.

    Raises:
      ValueError: The JSON needs what is not known. Damaged JSON may raise any exception.
    """

    def read(json: Any) -> Any:
        if json is None or isinstance(json, bool | int | float | str):
            return json
        if isinstance(json, list):
            return [read(entry) for entry in json]
        if "class" in json:
            fields = {name: read(entry) for name, entry in json["fields"].items()}
            return _build(_look_up(json["class"], users), fields)
        if json.keys() - {"float", "complex", "tuple", "dict", "name"}:
            return leaf(json)
        ((kind, content),) = json.items()
        if kind == "float":
            return float(content)
        if kind == "complex":
            return complex(*map(read, content))
        if kind == "tuple":
            return tuple(map(read, content))
        if kind == "dict":
            return {read(key): read(entry) for key, entry in content}
        return _look_up(content, users)

    return read(json)


def place_of(path: tuple[Any, ...]) -> str:
    """Returns the name of the value at a path, for messages."""
    return "/".join(names_along(path)) if path else "the whole value"


def _refuse_key(path: tuple[Any, ...], key: Any) -> Any:
    raise TypeError(f"the keys of dicts must be numbers, strings or tuples of them, but one is {key!r}: convert it")


def _fields(kind: Any) -> list[str] | None:
    """Returns the names of the fields that determine a value of a class, or None if it is not such a class."""
    if not isinstance(kind, type):
        return None
    if dataclasses.is_dataclass(kind):
        init = kind.__dataclass_params__.init  # type: ignore[attr-defined]
        return [field.name for field in dataclasses.fields(kind) if field.init or not init]
    return list(getattr(kind, "_fields", ())) if issubclass(kind, tuple) and hasattr(kind, "_fields") else None


def _build(kind: Any, values: dict[str, Any]) -> Any:
    """Makes a value from its fields. Fields that are newer than the file have their default values."""
    if (fields := _fields(kind)) is None:
        raise ValueError(f"{kind!r} is neither a dataclass nor a NamedTuple")
    if unknown := values.keys() - set(fields):
        raise ValueError(
            f"{kind.__name__} has no field {', '.join(sorted(unknown))} here: it was saved by another version"
        )
    if issubclass(kind, tuple) or kind.__dataclass_params__.init:  # type: ignore[attr-defined]
        return kind(**values)
    if missing := set(fields) - values.keys():
        raise ValueError(f"{kind.__name__} needs the field {', '.join(sorted(missing))}, which is missing")
    value = object.__new__(kind)  # its constructor does not take its fields, like that of `Stack`
    for name, entry in values.items():
        object.__setattr__(value, name, entry)
    getattr(value, "__post_init__", lambda: None)()
    return value


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


def _look_up(name: str, users: dict[str, Any]) -> Any:
    """Returns the class or function with a name in a file."""
    namespace, _, last = name.rpartition(".")
    known = KNOWN.get(namespace, {}) if namespace else users
    if last not in known:
        hint = "the file was written by another version"
        if not namespace:
            hint = f"give your own classes and functions, as in classes=[{last}, ...]"
        raise ValueError(f"it needs {name}, which is not known here: {hint}")
    return known[last]
