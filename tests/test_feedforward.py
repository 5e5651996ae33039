"""Layers without a state, against NumPy and against the laws of what they draw."""

import jax
import numpy as np
import pytest
from tables import INPUT, assert_close, draw, draw_params, to_numpy

from jaxrnn import Dense, Dropout, Embedding, LayerNorm, unroll

pytestmark = pytest.mark.usefixtures("x64", "quick")
TIME, BATCH = 5, 3
KEY = jax.random.key(0)


def test_dense():
    params, xs = draw_params(Dense(4)), draw(TIME, BATCH, INPUT)
    w, b = to_numpy(params)
    state, ys = unroll(Dense(4), params, xs)
    assert state == ()
    assert_close(ys, np.einsum("tbi,io->tbo", xs, w) + b)


def test_embedding():
    params = Embedding(4).init(KEY, 6)
    symbols = np.array([[0, 5], [3, 3]])
    _, ys = unroll(Embedding(4), params, symbols)
    np.testing.assert_array_equal(ys, np.asarray(params.w)[symbols])


def test_initial_values():
    dense = to_numpy(Dense(100).init(KEY, 50))
    assert not dense.b.any()
    assert 0.98 * np.sqrt(6 / 150) < np.abs(dense.w).max() <= np.sqrt(6 / 150)
    assert 0.095 < np.asarray(Embedding(100).init(KEY, 50).w).std() < 0.105
    norm = to_numpy(LayerNorm().init(KEY, 7))
    np.testing.assert_array_equal(norm.scale, np.ones(7))
    np.testing.assert_array_equal(norm.bias, np.zeros(7))


def test_layer_norm():
    layer = LayerNorm(epsilon=1e-3)
    params, xs = draw_params(layer), 5 + draw(TIME, BATCH, INPUT)
    expected = np.empty_like(xs)
    for n in np.ndindex(TIME, BATCH):
        x = xs[n]
        expected[n] = (x - np.mean(x)) / np.sqrt(np.var(x) + 1e-3) * np.asarray(params.scale) + np.asarray(params.bias)
    assert_close(unroll(layer, params, xs)[1], expected, rtol=1e-11)


def test_layer_norm_of_large_means():
    """The variance as the mean square of the centred values; the mean of squares would lose it."""
    xs = np.array([[1e8, 1e8 + 1, 1e8 + 2]])
    _, ys = unroll(LayerNorm(), LayerNorm().init(KEY, 3), xs)
    np.testing.assert_allclose(ys, [[-np.sqrt(1.5), 0, np.sqrt(1.5)]], rtol=1e-5)


# ---- dropout ---------------------------------------------------------------------------------------------------------


def drop(xs, rate, shared=False, **how):
    return np.asarray(unroll(Dropout(rate, shared), (), xs, **how)[1])


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
