"""Embedding, against NumPy."""

import jax
import numpy as np
import pytest

import jaxrnn
from jaxrnn import Embedding, unroll

pytestmark = pytest.mark.usefixtures("x64", "quick")
KEY = jax.random.key(0)

EXAMPLE = jaxrnn.Embedding(4)


def test_embedding():
    params = Embedding(4).init(KEY, 6)
    symbols = np.array([[0, 5], [3, 3]])
    _, ys = unroll(Embedding(4), params, symbols)
    np.testing.assert_array_equal(ys, np.asarray(params.w)[symbols])


def test_initial_values():
    assert 0.095 < np.asarray(Embedding(100).init(jax.random.key(0), 50).w).std() < 0.105
