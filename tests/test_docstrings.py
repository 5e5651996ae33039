"""Every public class and function has an example in its docstring that runs and prints what it says."""

import doctest
import importlib
import inspect
import io
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxrnn
from tests.support.tiers import slow_but

pytestmark = pytest.mark.usefixtures("quick")
ROOMS = [
    "cells",
    "cells.s4d",
    "convert",
    "initializers",
    "layers",
    "linen",
    "loops",
    "nnx",
    "ops",
    "testing",
    "trees",
    "weights",
]
MODULES = [jaxrnn, jaxrnn.wrappers, *(importlib.import_module(f"jaxrnn.{room}") for room in ROOMS)]
EXAMPLE = re.compile(r"^Examples?:\n(?:[ \n].*\n?)+", flags=re.MULTILINE)


def public_names(module):
    if hasattr(module, "__all__"):
        return module.__all__
    own = [name for name, value in vars(module).items() if getattr(value, "__module__", "") == module.__name__]
    return [name for name in own if not name.startswith("_")]


def needs_an_example(value):
    """Returns whether a public name is a class to be used, or a function, of this library."""
    if not getattr(value, "__module__", "").startswith("jaxrnn"):
        return False
    if not inspect.isclass(value):
        return inspect.isfunction(value)
    is_named_tuple = issubclass(value, tuple) and hasattr(value, "_fields")  # parameters, states and inputs
    return not is_named_tuple and not inspect.isabstract(value)


def collect():
    found = {}
    for module in MODULES:
        for name in public_names(module):
            value = getattr(module, name)
            if needs_an_example(value) and value not in found.values():
                found[f"{module.__name__}.{name}"] = value
    return found


PUBLIC = collect()
IN_DEFAULT_TIER = {  # the slow tier runs all
    *("jaxrnn.ConvLSTM", "jaxrnn.GRUD", "jaxrnn.LSTM", "jaxrnn.Stack", "jaxrnn.Bidirectional", "jaxrnn.Zoneout"),
    *("jaxrnn.Activation", "jaxrnn.at_last", "jaxrnn.call_key", "jaxrnn.hold"),
    *("jaxrnn.Stream", "jaxrnn.Steps", "jaxrnn.adopt", "jaxrnn.save", "jaxrnn.step", "jaxrnn.unroll"),
    *("jaxrnn.loops.Deferred", "jaxrnn.linen.RNN", "jaxrnn.nnx.RNN", "jaxrnn.trees.unroll", "jaxrnn.weights.drop"),
    *(name for name in PUBLIC if name.split(".")[1] in ("ops", "initializers", "convert")),
}


def run_example(name, value):
    example = EXAMPLE.search((inspect.getdoc(value) or "") + "\n")
    assert example, f"the docstring of {name} must have a section `Example:`"
    names = {"jax": jax, "jnp": jnp, "np": np, "jaxrnn": jaxrnn}
    test = doctest.DocTestParser().get_doctest(example[0], names, name, None, None)
    assert test.examples, f"the example of {name} must have prompts, >>>"
    report = io.StringIO()
    doctest.DocTestRunner(verbose=False, optionflags=doctest.ELLIPSIS).run(test, out=report.write)
    assert not report.getvalue(), report.getvalue()


@pytest.mark.parametrize("name", slow_but(PUBLIC, IN_DEFAULT_TIER))
def test_example_in_docstring(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run_example(name, PUBLIC[name])


@pytest.mark.parametrize("name", PUBLIC)
def test_everything_public_has_an_example(name):
    example = EXAMPLE.search((inspect.getdoc(PUBLIC[name]) or "") + "\n")
    assert example, f"the docstring of {name} must have a section `Example:`"
    assert ">>> " in example[0]


def test_public_names_are_found():
    assert {"jaxrnn.LSTM", "jaxrnn.unroll", "jaxrnn.loops.Scan", "jaxrnn.ops.affine"} <= set(PUBLIC)
    assert not {"jaxrnn.Cell", "jaxrnn.Plan", "jaxrnn.cells.LSTMParams", "jaxrnn.ops.tanh"} & set(PUBLIC)
    assert set(PUBLIC) >= IN_DEFAULT_TIER


def documented(text):
    def function():
        pass

    function.__doc__ = text
    return function


def test_a_wrong_example_is_found():
    with pytest.raises(AssertionError, match=r"Expected:\s+3\s+Got:\s+2"):
        run_example("f", documented("Adds.\n\nExample:\n  >>> 1 + 1\n  3\n\nArgs:\n  x: A number."))
    with pytest.raises(AssertionError, match="must have prompts"):
        run_example("f", documented("Adds.\n\nExample:\n  1 + 1"))
    with pytest.raises(AssertionError, match="must have a section"):
        run_example("f", documented("Adds.\n\nArgs:\n  x: A number."))
    run_example("f", documented("Adds.\n\nExample:\n  >>> 1 + 1\n  2\n\nArgs:\n  x: A number."))
