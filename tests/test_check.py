"""The checks of arguments: what each accepts, and the errors for another kind of value and for one out of range."""

import inspect
from dataclasses import dataclass
from types import SimpleNamespace

import jax
import numpy as np
import pytest

import jaxrnn
from jaxrnn import _check as check

NAN, INF = float("nan"), float("inf")

CHECKS = {  # check: how to call it, what it accepts, wrong kinds, values out of range, a piece of the message
    "positive": (check.positive, (), [1, 9], [1.0, True, None], [0, -1], "a positive integer"),
    "positive_or_none": (check.positive_or_none, (), [1, None], [1.0, True], [0, -1], "a positive integer"),
    "at_least 0": (check.at_least, (0,), [0, 3], [0.0, False], [-1], "a non-negative integer"),
    "at_least 2": (check.at_least, (2,), [2, 3], [2.0, None], [1], "an integer of at least 2"),
    "divides": (check.divides, ("whole",), [1, 2, 6], [2.0, True], [0, 4, -1], "a positive integer that divides its"),
    "finite": (check.finite, (), [0, -1.5], ["1", None, True], [NAN, INF], "a finite number"),
    "above": (check.above, (2.0,), [2.5, 3], ["3", None], [2.0, NAN, INF], "a finite number above 2"),
    "non_negative": (check.non_negative, (), [0, 2.5], ["1", None], [-0.1, NAN, INF], "a finite number of at least 0"),
    "share": (check.share, (), [0.1, 1], [None, True], [0, 1.1, NAN], "a number above 0 and at most 1"),
    "between": (check.between, (0, 1), [0, 0.5, 1], [None, "0"], [-0.1, 1.1, NAN], "a number from 0 to 1"),
    "rate": (check.rate, (), [0, 0.99], [None, False], [1, -0.1, NAN], "from 0 to below 1"),
    "rates": (check.rates, (), [0.5, (0.0, 0.9)], ["1", (0.5, "1")], [1, (0.5, 1.0)], "from 0 to below 1"),
    "gate_bias": (check.gate_bias, (), [1.0, 2, jaxrnn.Chrono(9)], [None, "1"], [INF, NAN], "or Chrono(longest)"),
    "flag": (check.flag, (), [True, np.bool_(False)], [0, None], [], "True or False"),
    "function": (check.function, (), [abs, int], [0, None], [], "a function"),
    "name_or_none": (check.name_or_none, (), ["time", None], [0, ("time",)], [], "a name or None"),
    "instance": (check.instance, (str, "a word"), ["word"], [0, str], [], "a word"),
}
HELPERS = {
    "described",
    "unmixed_input_size",
    "numbers",
    "did_you_mean",
    "is_integer",
    "is_number",
}  # tested through the layers that use them


def owner_of(value):
    return SimpleNamespace(value=value, whole=6)


@pytest.mark.parametrize("name", CHECKS)
def test_check(name):
    call, more, accepted, wrong_kinds, out_of_range, piece = CHECKS[name]
    for value in accepted:
        call(owner_of(value), "value", *more)
    for error, values in ((TypeError, wrong_kinds), (ValueError, out_of_range)):
        for value in values:
            with pytest.raises(error) as raised:
                call(owner_of(value), "value", *more)
            message = str(raised.value)
            assert message.startswith("SimpleNamespace's value must be ")
            assert piece in message
            assert f"but it is {value!r}" in message


def test_several_arguments_at_once():
    owner = SimpleNamespace(one=1, other=0)
    with pytest.raises(ValueError, match="SimpleNamespace's other must be a positive integer, but it is 0"):
        check.positive(owner, "one", "other")


def test_a_class_in_place_of_an_instance():
    with pytest.raises(TypeError, match=r"did you mean str\(\.\.\.\)\?$"):
        check.instance(owner_of(str), "value", str, "a word")


def test_a_layer_of_the_user_may_call_the_check_of_its_base():
    @dataclass(frozen=True)
    class Own(jaxrnn.Cell):
        size: int
        init = initial_state = project = step = readout = None

        def __post_init__(self):
            super().__post_init__()
            check.positive(self, "size")

    assert Own(1).size == 1
    with pytest.raises(ValueError, match="Own's size must be a positive integer, but it is 0"):
        Own(0)


def test_the_input_size_is_no_argument_of_a_cell():
    message = (
        r"^LSTM takes hidden_size by position, but got \(3, 8\): write forget_bias, activation and "
        r"gate_activation by name; the input size is .* init$"
    )
    with pytest.raises(TypeError, match=message):
        jaxrnn.LSTM(3, 8)
    with pytest.raises(
        TypeError, match=r"^Dense takes size by position, but got \(3, 8\): leave out the rest; the input"
    ):
        jaxrnn.Dense(3, 8)
    with pytest.raises(
        TypeError, match=r"^Scan takes nothing by position, but got \(8,\): write unroll and .* by name$"
    ):
        jaxrnn.loops.Scan(8)
    with pytest.raises(TypeError, match=r"^LSTM takes no input_size: it is an argument of init$"):
        jaxrnn.LSTM(input_size=3, hidden_size=8)


def test_a_layer_of_the_user_may_write_its_own_init():
    @dataclass(frozen=True, init=False)
    class Pair(jaxrnn.GRU):
        def __init__(self, first, second):
            object.__setattr__(self, "hidden_size", first + second)

    assert Pair(1, 2).hidden_size == 3


def test_numpy_integers_are_sizes():
    cell = jaxrnn.LSTM(np.int64(4))
    assert cell == jaxrnn.LSTM(4)
    assert hash(cell) == hash(jaxrnn.LSTM(4))
    assert cell.init(jax.random.key(0), np.int64(3)).w_x.shape == (3, 16)


def test_every_check_is_tested():
    members = inspect.getmembers(check, inspect.isfunction)
    functions = {name for name, value in members if value.__module__ == check.__name__ and not name.startswith("_")}
    assert functions == {name.split()[0] for name in CHECKS} | HELPERS
