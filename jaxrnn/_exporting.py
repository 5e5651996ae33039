"""Registers the NamedTuples of jaxrnn for the serialization of functions that `jax.export` has exported."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from types import ModuleType
from typing import Any

import jax.export


def register_named_tuples(*modules: ModuleType) -> None:
    """Registers all public NamedTuples of some modules, such as parameters and states, under `jaxrnn.<name>`."""
    for kind in _named_tuples(modules):
        try:
            jax.export.register_namedtuple_serialization(kind, serialized_name=f"jaxrnn.{kind.__name__}")
        except ValueError as error:
            if "Duplicate" not in str(error):
                raise
            return  # jaxrnn was imported before in this process, and a name can be registered only once


def _named_tuples(modules: tuple[ModuleType, ...]) -> Iterator[Any]:
    for module in modules:
        for value in vars(module).values():
            if inspect.ismodule(value) and value.__name__.startswith(f"{module.__name__}."):
                yield from _named_tuples((value,))
            elif getattr(value, "__module__", None) == module.__name__ and _is_public_named_tuple(value):
                yield value


def _is_public_named_tuple(value: Any) -> bool:
    is_named_tuple = inspect.isclass(value) and issubclass(value, tuple) and hasattr(value, "_fields")
    return is_named_tuple and not value.__name__.startswith("_")
