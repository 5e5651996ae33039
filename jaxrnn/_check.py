"""Checks of a layer's arguments, one line each in `__post_init__`: `check.positive(self, "hidden_size")`.

Every function names the class and the argument in its error, says what must hold and what was given. It raises
`TypeError` for the wrong kind of value and `ValueError` for a value that is out of range.
"""

from __future__ import annotations

import dataclasses
import math
from numbers import Integral, Real
from typing import Any, Self

import jax
import numpy as np

from jaxrnn.initializers import Chrono
from jaxrnn.ops import is_symbols


class NamedArguments:
    """Base of dataclasses that take only their required arguments by position.

    Arguments with a default follow `KW_ONLY`. Otherwise `LSTM(3, 8)`, written by someone who expects the input size
    first, would be an `LSTM(3)` with a forget bias of 8.
    """

    def __new__(cls, *args: Any, **kwargs: Any) -> Self:
        if _has_dataclass_init(cls):
            fields = [field for field in dataclasses.fields(cls) if field.init]  # type: ignore[arg-type]
            required = [field.name for field in fields if not field.kw_only]
            if "input_size" in kwargs and "input_size" not in cls.__dataclass_fields__ and hasattr(cls, "init"):  # type: ignore[attr-defined]
                raise TypeError(f"{cls.__name__} takes no input_size: it is an argument of init")
            if len(args) > len(required):
                named = [field.name for field in fields if field.kw_only]
                raise TypeError(
                    f"{cls.__name__} takes {_listed(required) or 'nothing'} by position, but got {args}: "
                    + (f"write {_listed(named)} by name" if named else "leave out the rest")
                    + ("; the input size is an argument of init" if hasattr(cls, "init") else "")
                )
        return super().__new__(cls)


def positive(owner: Any, *names: str) -> None:
    """Checks that each argument is a positive integer, such as a size or a number of heads."""
    for name in names:
        at_least(owner, name, 1)


def positive_or_none(owner: Any, *names: str) -> None:
    """Checks that each argument is None or a positive integer."""
    for name in names:
        if getattr(owner, name) is not None:
            at_least(owner, name, 1)


def at_least(owner: Any, name: str, least: int) -> None:
    """Checks that an argument is an integer of at least `least`."""
    what = {0: "a non-negative integer", 1: "a positive integer"}.get(least, f"an integer of at least {least}")
    if not is_integer(getattr(owner, name)):
        raise TypeError(_message(owner, name, what))
    if getattr(owner, name) < least:
        raise ValueError(_message(owner, name, what))


def divides(owner: Any, name: str, whole: str) -> None:
    """Checks that an argument is a positive integer that divides another argument, `whole`, without a remainder."""
    what = f"a positive integer that divides its {whole}, {getattr(owner, whole)}"
    if not is_integer(getattr(owner, name)):
        raise TypeError(_message(owner, name, what))
    if getattr(owner, name) < 1 or getattr(owner, whole) % getattr(owner, name):
        raise ValueError(_message(owner, name, what))


def finite(owner: Any, *names: str) -> None:
    """Checks that each argument is a finite real number, such as the initial value of a bias."""
    for name in names:
        _number(owner, name, "a finite number", math.isfinite)


def above(owner: Any, name: str, bound: float) -> None:
    """Checks that an argument is a finite number above `bound`."""
    _number(owner, name, f"a finite number above {bound:g}", lambda value: bound < value < math.inf)


def non_negative(owner: Any, *names: str) -> None:
    """Checks that each argument is a finite number of at least zero."""
    for name in names:
        _number(owner, name, "a finite number of at least 0", lambda value: 0 <= value < math.inf)


def share(owner: Any, *names: str) -> None:
    """Checks that each argument is a number above 0 and at most 1, such as a leak."""
    for name in names:
        _number(owner, name, "a number above 0 and at most 1", lambda value: 0 < value <= 1)


def between(owner: Any, name: str, low: float, high: float) -> None:
    """Checks that an argument is a number from `low` to `high`, both included."""
    _number(owner, name, f"a number from {low:g} to {high:g}", lambda value: low <= value <= high)


def rate(owner: Any, *names: str) -> None:
    """Checks that each argument is a probability or a share from 0 to below 1, such as a dropout rate."""
    for name in names:
        _number(owner, name, "from 0 to below 1", lambda value: 0 <= value < 1)


def rates(owner: Any, name: str) -> None:
    """Checks that an argument is a rate, or a pytree of rates."""
    for leaf in jax.tree.leaves(getattr(owner, name)):
        if not is_number(leaf):
            raise TypeError(_message(owner, name, "from 0 to below 1"))
        if not 0 <= leaf < 1:
            raise ValueError(_message(owner, name, "from 0 to below 1"))


def gate_bias(owner: Any, *names: str) -> None:
    """Checks that each argument is the initial value of a gate's bias: a finite number or a `Chrono`."""
    for name in names:
        if not isinstance(getattr(owner, name), Chrono):
            _number(owner, name, "a finite number or Chrono(longest)", math.isfinite)


def flag(owner: Any, *names: str) -> None:
    """Checks that each argument is True or False, of Python or of NumPy."""
    for name in names:
        if not isinstance(getattr(owner, name), bool | np.bool_):
            raise TypeError(_message(owner, name, "True or False"))


def function(owner: Any, *names: str) -> None:
    """Checks that each argument is a function, such as an activation, and not a layer, which takes parameters."""
    for name in names:
        value = getattr(owner, name)
        if not callable(value) or hasattr(value, "initial_state"):
            raise TypeError(_message(owner, name, "a function"))


def name_or_none(owner: Any, *names: str) -> None:
    """Checks that each argument is None or a name, such as that of a mesh axis."""
    for name in names:
        if not isinstance(getattr(owner, name), str | None):
            raise TypeError(_message(owner, name, "a name or None"))


def instance(owner: Any, name: str, kind: type, what: str) -> None:
    """Checks that an argument is an instance of `kind`, described as `what`, such as "a jaxrnn cell"."""
    value = getattr(owner, name)
    if not isinstance(value, kind):
        raise TypeError(_message(owner, name, what) + did_you_mean(value))


def unmixed_input_size(owner: Any, input_size: Any, size: int) -> None:
    """Checks the input size of a cell that adds its input to its state without a matrix between them."""
    if input_size != size:
        raise ValueError(
            f"{type(owner).__name__} uses its input without multiplying it by a matrix, so its input_size must be "
            f"{size}, but it is {input_size!r}: put a Dense({size}) before it, or an Embedding({size}) for symbols"
        )


def numbers(owner: Any, x: Any, what_it_does: str, remedy: str = "put an Embedding before it") -> None:
    """Checks that an input holds numbers and no symbols, because of `what_it_does`, such as "normalizes its input"."""
    if is_symbols(x):
        raise TypeError(f"{owner} {what_it_does}, so it needs numbers, not symbols: {remedy}")


def described(value: Any) -> str:
    """Returns a value as it is printed, or only its kind if that takes several lines, as trees of arrays do."""
    text = repr(value)
    return f"of the type {type(value).__name__}" if "\n" in text else text


def did_you_mean(value: Any) -> str:
    """Returns a hint for a class that was given in place of an instance."""
    return f": did you mean {value.__name__}(...)?" if isinstance(value, type) else ""


def is_integer(value: Any) -> bool:
    """Returns whether a value is an integer, of Python or of NumPy, and not a boolean."""
    return isinstance(value, Integral) and not isinstance(value, bool)


def is_number(value: Any) -> bool:
    """Returns whether a value is a real number, of Python or of NumPy, and not a boolean."""
    return isinstance(value, Real) and not isinstance(value, bool)


def _has_dataclass_init(cls: type) -> bool:
    """Returns whether `dataclass` wrote the `__init__` of a class."""
    owner = next(c for c in cls.__mro__ if "__init__" in vars(c))
    return "__dataclass_params__" in vars(owner) and vars(owner)["__dataclass_params__"].init


def _number(owner: Any, name: str, what: str, holds: Any) -> None:
    value = getattr(owner, name)
    if not is_number(value):
        raise TypeError(_message(owner, name, what))
    if not holds(value):  # NaN fails every comparison
        raise ValueError(_message(owner, name, what))


def _message(owner: Any, name: str, what: str) -> str:
    return f"{type(owner).__name__}'s {name} must be {what}, but it is {described(getattr(owner, name))}"


def _listed(names: list[str]) -> str:
    """Returns names as a list in a sentence: a, b and c."""
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)
