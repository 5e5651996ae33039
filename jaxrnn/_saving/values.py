"""Layers and the containers of parameters as JSON, and back by known names: nothing is imported or unpickled."""

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
from jaxrnn._names import names
from jaxrnn.weights import Normalized

PACKAGES = (cells, layers, wrappers, loops, trees, initializers)


def _public(*modules: Any) -> dict[str, Any]:
    """The public classes and functions of modules by their names."""
    found = {name: value for module in modules for name, value in vars(module).items() if callable(value)}
    return {name: value for name, value in found.items() if not name.startswith("_")}


def _is_ours(value: Any) -> bool:
    return getattr(value, "__module__", "").split(".")[0] == "jaxrnn"


KNOWN = {  # what a file may name; "jaxrnn" stands for the whole package, so that its modules may move
    "jaxrnn": {name: value for name, value in _public(*PACKAGES).items() if _is_ours(value)}
    | {"Adopted": Adopted, "Normalized": Normalized},
    "jax.numpy": _public(jnp),
    "jax.nn": _public(jax.nn),
    "operator": {"add": operator.add, "mul": operator.mul},  # to merge two directions
}

Leaf = Callable[[tuple[Any, ...], Any], Any]


def own_names(values: Iterable[Any]) -> dict[str, Any]:
    """The user's own classes and functions by their names, under which files mention them."""
    own: dict[str, Any] = {}
    for value in values:
        name = getattr(value, "__name__", None)
        if name is None or not callable(value):
            raise TypeError(f"classes must hold classes and functions, but it holds {value!r}")
        if own.setdefault(name, value) is not value:
            raise ValueError(f"files know classes by their names, but two are called {name}: rename one")
    return own


def to_json(value: Any, leaf: Leaf, own: list[Any], path: tuple[Any, ...] = ()) -> Any:
    """A value as JSON.

    Args:
      value: numbers, strings, tuples, lists, dicts, NamedTuples, dataclasses, functions and classes that have names.
      leaf: what becomes of anything else, given its path and itself.
      own: a list to which classes and functions that are not `KNOWN` are added.
      path: JAX's keys from the root to this value.
    """
    if value is None or type(value) in (bool, int, str):
        return value
    if type(value) is float:
        return value if math.isfinite(value) else {"float": repr(value)}
    if type(value) is complex:
        return {"complex": [to_json(part, leaf, own, path) for part in (value.real, value.imag)]}
    if type(value) in (tuple, list):
        entries = [to_json(entry, leaf, own, (*path, SequenceKey(n))) for n, entry in enumerate(value)]
        return entries if type(value) is list else {"tuple": entries}
    if type(value) is dict:
        keyed = [(to_json(key, _no_key, own, path), (*path, DictKey(key)), entry) for key, entry in value.items()]
        return {"dict": [[key, to_json(entry, leaf, own, at)] for key, at, entry in keyed]}
    if (fields := _fields(type(value))) is not None:
        named = {name: to_json(getattr(value, name), leaf, own, (*path, GetAttrKey(name))) for name in fields}
        return {"class": _name(type(value), own, path), "fields": named}
    if callable(value) and hasattr(value, "__name__"):
        return {"name": _name(value, own, path)}
    return leaf(path, value)


def from_json(json: Any, leaf: Callable[[Any], Any], own: dict[str, Any]) -> Any:
    """The value that `to_json` wrote; `leaf` takes what its `leaf` returned. Raises ValueError and, of damage, any."""

    def read(json: Any) -> Any:
        if json is None or isinstance(json, bool | int | float | str):
            return json
        if isinstance(json, list):
            return [read(entry) for entry in json]
        if "class" in json:
            return _build(_find(json["class"], own), {name: read(entry) for name, entry in json["fields"].items()})
        if json.keys() - {"float", "complex", "tuple", "dict", "name"}:
            return leaf(json)
        ((kind, content),) = json.items()
        if kind == "dict":
            return {read(key): read(entry) for key, entry in content}
        if kind == "complex":
            return complex(*map(read, content))
        return {"float": float, "tuple": lambda c: tuple(map(read, c)), "name": lambda c: _find(c, own)}[kind](content)

    return read(json)


def where(path: tuple[Any, ...]) -> str:
    """A path as it stands in messages."""
    return "/".join(names(path)) if path else "the whole"


def _no_key(path: tuple[Any, ...], key: Any) -> Any:
    raise TypeError(f"keys of dicts must be numbers, strings or tuples of such, but one is {key!r}: rename it")


def _fields(kind: Any) -> list[str] | None:
    """The fields that make a value of this class; None of a class that is made of no fields."""
    if not isinstance(kind, type):
        return None
    if dataclasses.is_dataclass(kind):
        init = kind.__dataclass_params__.init  # type: ignore[attr-defined]
        return [field.name for field in dataclasses.fields(kind) if field.init or not init]
    return list(getattr(kind, "_fields", ())) if issubclass(kind, tuple) and hasattr(kind, "_fields") else None


def _build(kind: Any, values: dict[str, Any]) -> Any:
    """A value of its fields. One that the file does not mention, since it is newer, has its default."""
    if (fields := _fields(kind)) is None:
        raise ValueError(f"{kind!r} is neither a dataclass nor a NamedTuple")
    if unknown := values.keys() - set(fields):
        raise ValueError(
            f"{kind.__name__} has no field {', '.join(sorted(unknown))} here: another version of it was saved"
        )
    if issubclass(kind, tuple) or kind.__dataclass_params__.init:  # type: ignore[attr-defined]
        return kind(**values)
    if missing := set(fields) - values.keys():
        raise ValueError(f"{kind.__name__} needs the field {', '.join(sorted(missing))}, which is missing")
    value = object.__new__(kind)  # the constructor has arguments of its own, as that of `Stack`
    for name, entry in values.items():
        object.__setattr__(value, name, entry)
    getattr(value, "__post_init__", lambda: None)()
    return value


def _name(value: Any, own: list[Any], path: tuple[Any, ...]) -> str:
    for place, known in KNOWN.items():
        for name, other in known.items():
            if other is value:
                return f"{place}.{name}"
    if not value.__name__.isidentifier():
        raise TypeError(f"functions must have names to be mentioned in a file, but {where(path)} is {value!r}: use def")
    own.append(value)
    return value.__name__


def _find(name: str, own: dict[str, Any]) -> Any:
    place, _, last = name.rpartition(".")
    known = KNOWN.get(place, {}) if place else own
    if last not in known:
        hint = "another version wrote it" if place else f"give your own classes and functions, classes=[{last}, ...]"
        raise ValueError(f"it needs {name}, which is not known here: {hint}")
    return known[last]
