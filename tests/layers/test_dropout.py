"""Dropout, against NumPy."""

import operator

import jax
import numpy as np
import pytest

import jaxrnn
from jaxrnn import Bidirectional, Dropout, Stack, unroll
from tests.support.inputs import INPUT, draw

pytestmark = pytest.mark.usefixtures("x64", "quick")
KEY = jax.random.key(0)
TIME, BATCH = 5, 3


def drop(xs, rate, shared=False, **how):
    return np.asarray(unroll(Dropout(rate, shared=shared), (), xs, **how)[1])


EXAMPLE = jaxrnn.Dropout(0.5)


@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize("rate", [0.0, 0.25, 0.8])
def test_dropout_drops_at_its_rate_and_scales_the_rest(rate, shared):
    xs = 1 + np.abs(draw(10, 40, 50))
    ys = drop(xs, rate, shared, key=KEY)
    kept = ys != 0
    np.testing.assert_allclose(ys[kept], (xs / (1 - rate))[kept], rtol=1e-12)
    spread = np.sqrt(rate * (1 - rate) / (2000 if shared else 20000))
    assert abs(kept.mean() - (1 - rate)) <= 4 * spread
    assert (kept == kept[:1]).all() == (shared or rate == 0)


def test_dropout_differs_between_sequences_units_and_steps():
    kept = drop(np.ones((20, 8, 16)), 0.5, key=KEY) != 0
    for axis in range(3):
        assert len(np.unique(kept, axis=axis).swapaxes(0, axis)) == kept.shape[axis]
    kept = drop(np.ones((20, 8, 16)), 0.5, shared=True, key=KEY)[0] != 0
    assert len(np.unique(kept, axis=0)) == 8


def test_dropout_without_a_key_is_the_identity():
    xs = draw(TIME, BATCH, INPUT)
    np.testing.assert_array_equal(drop(xs, 0.5), xs)
    np.testing.assert_array_equal(drop(xs, 0.0, key=KEY), xs)


def test_dropout_of_an_infinite_value_is_zero():
    """By `where`: zero times infinity would be NaN."""
    ys = drop(np.full((50, 4), np.inf), 0.5, key=KEY)
    assert set(np.unique(ys)) == {0.0, np.inf}


def test_gradient_of_dropout_is_its_scaled_mask():
    xs = 1 + np.abs(draw(TIME, BATCH, INPUT))
    gradient = jax.grad(lambda xs: unroll(Dropout(0.5), (), xs, key=KEY)[1].sum())(xs)
    np.testing.assert_allclose(gradient, drop(xs, 0.5, key=KEY) / xs, rtol=1e-12)


def test_each_layer_draws_from_a_key_of_its_own():
    layer = Stack(jaxrnn.Dropout(0.5), jaxrnn.Dropout(0.5))
    ones = np.ones((50, 100))
    kept = np.asarray(unroll(layer, ((), ()), ones, key=jax.random.key(0))[1] != 0).mean()
    assert 0.22 < kept < 0.28  # 0.5 * 0.5; with one mask for both it would be 0.5
    twice = Bidirectional(jaxrnn.Dropout(0.5), merge=operator.mul)
    kept = np.asarray(unroll(twice, twice.init(jax.random.key(0), 100), ones, key=jax.random.key(0))[1] != 0).mean()
    assert 0.22 < kept < 0.28
