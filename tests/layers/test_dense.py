"""Dense, against NumPy."""

import jax
import numpy as np
import pytest

import jaxrnn
from jaxrnn import Dense, unroll
from tests.support.comparisons import assert_close, to_numpy
from tests.support.inputs import INPUT, draw, draw_params

pytestmark = pytest.mark.usefixtures("x64", "quick")
TIME, BATCH = 5, 3

EXAMPLE = jaxrnn.Dense(4)


def test_dense():
    params, xs = draw_params(Dense(4)), draw(TIME, BATCH, INPUT)
    w, b = to_numpy(params)
    state, ys = unroll(Dense(4), params, xs)
    assert state == ()
    assert_close(ys, np.einsum("tbi,io->tbo", xs, w) + b)


def test_initial_values():
    params = to_numpy(Dense(100).init(jax.random.key(0), 50))
    assert not params.b.any()
    assert 0.98 * np.sqrt(6 / 150) < np.abs(params.w).max() <= np.sqrt(6 / 150)
