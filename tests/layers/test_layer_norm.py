"""LayerNorm, against NumPy."""

import jax
import numpy as np
import pytest

import jaxrnn
from jaxrnn import LayerNorm, unroll
from tests.support.comparisons import assert_close, to_numpy
from tests.support.inputs import INPUT, draw, draw_params

pytestmark = pytest.mark.usefixtures("x64", "quick")
KEY = jax.random.key(0)
TIME, BATCH = 5, 3

EXAMPLE = jaxrnn.LayerNorm()


def test_layer_norm():
    layer = LayerNorm(epsilon=1e-3)
    params, xs = draw_params(layer), 5 + draw(TIME, BATCH, INPUT)
    expected = np.empty_like(xs)
    for n in np.ndindex(TIME, BATCH):
        x = xs[n]
        expected[n] = (x - np.mean(x)) / np.sqrt(np.var(x) + 1e-3) * np.asarray(params.scale) + np.asarray(params.bias)
    assert_close(unroll(layer, params, xs)[1], expected, rtol=1e-11)


def test_layer_norm_of_large_means():
    """The variance as the mean square of the centered values; the mean of squares would lose it."""
    xs = np.array([[1e8, 1e8 + 1, 1e8 + 2]])
    _, ys = unroll(LayerNorm(), LayerNorm().init(KEY, 3), xs)
    np.testing.assert_allclose(ys, [[-np.sqrt(1.5), 0, np.sqrt(1.5)]], rtol=1e-5)


def test_initial_values():
    params = to_numpy(LayerNorm().init(jax.random.key(0), 7))
    np.testing.assert_array_equal(params.scale, np.ones(7))
    np.testing.assert_array_equal(params.bias, np.zeros(7))
