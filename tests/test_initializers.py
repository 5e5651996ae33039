"""Initializers of weights."""

import jax
import pytest

import jaxrnn
from tests.support.comparisons import to_numpy

pytestmark = pytest.mark.usefixtures("x64", "quick")


def test_uniform_initializer():
    draws = to_numpy(jaxrnn.initializers.uniform(0.25)(jax.random.key(0), (1000,)))
    assert -0.25 <= draws.min() < -0.24
    assert 0.24 < draws.max() < 0.25
