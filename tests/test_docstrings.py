"""The examples in the docstrings of public classes and functions run and print what they say."""

import doctest
import inspect

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxrnn
from tests.support.cases import exported_layers
from tests.support.tiers import slow_but

MODULES = (jaxrnn, *(getattr(jaxrnn, name) for name in ("initializers", "loops", "ops", "testing", "trees", "weights")))
PUBLIC = {
    f"{module.__name__}.{name}": value
    for module in MODULES
    for name, value in vars(module).items()
    if (inspect.isclass(value) or inspect.isfunction(value))
    and not name.startswith("_")
    and value.__module__.startswith(module.__name__)
}
EXAMPLES = {
    test.name: test
    for name, value in PUBLIC.items()
    for test in doctest.DocTestFinder(recurse=False).find(
        value, name, globs={"jax": jax, "jaxrnn": jaxrnn, "jnp": jnp, "np": np}
    )
    if test.examples
}
FEW = ("jaxrnn.LSTM", "jaxrnn.Stack", "jaxrnn.Zoneout", "jaxrnn.unroll", "jaxrnn.loops.Scan")


@pytest.mark.parametrize("name", slow_but(EXAMPLES, FEW))
def test_example(name):
    runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE)
    printed = []
    results = runner.run(EXAMPLES[name], out=printed.append)
    assert results.attempted
    assert not results.failed, "".join(printed)


@pytest.mark.parametrize("name", sorted(f"jaxrnn.{name}" for name in exported_layers()))
def test_every_layer_has_an_example(name):
    assert name in EXAMPLES, f"the docstring of {name} must have an Example"
