"""Highway, against NumPy."""

import jax
import numpy as np
import pytest

import jaxrnn
from jaxrnn import GRU, Highway, unroll
from tests.cells.test_gru import gru
from tests.support import references
from tests.support.comparisons import assert_close
from tests.support.inputs import INPUT, draw_all
from tests.support.references import sigmoid

pytestmark = pytest.mark.usefixtures("x64", "quick")
TIME, BATCH = 5, 3

EXAMPLE = jaxrnn.Highway(jaxrnn.GRU(INPUT))


def test_highway():
    layer = Highway(GRU(INPUT), transform_bias=-2.0)
    params, p, xs, _ = draw_all(layer, TIME, BATCH)
    _, inner = references.run(gru(INPUT), p.layer, xs)
    t = np.array([[sigmoid(p.w.T @ x + p.b) for x in step] for step in xs])
    assert_close(unroll(layer, params, xs)[1], t * inner + (1 - t) * xs)
    np.testing.assert_array_equal(layer.init(jax.random.key(0), INPUT).b, [-2, -2, -2])
