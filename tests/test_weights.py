"""Functions of parameters against their definitions, through `unroll` and its gradient."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxrnn
from jaxrnn import GRU, LSTM, Highway, Stack, unroll, weights
from tests.support.comparisons import assert_close
from tests.support.inputs import INPUT, draw, draw_params

pytestmark = pytest.mark.usefixtures("x64", "quick")
LAYER = Stack(LSTM(4), Highway(GRU(4)))
PARAMS = LAYER.init(jax.random.key(0), INPUT)  # of the default dtype, float32
KEY = jax.random.key(1)


def same(one, other):
    jax.tree.map(np.testing.assert_array_equal, one, other)


def test_dropped_weights_are_zero_or_scaled_and_all_others_the_same():
    params = draw_params(Stack(LSTM(50), Highway(GRU(50))))
    dropped = weights.drop(KEY, params, 0.2)
    for new, old in ((dropped[0].w_h, params[0].w_h), (dropped[1].layer.w_h, params[1].layer.w_h)):
        kept = np.asarray(new != 0)
        np.testing.assert_allclose(new, np.where(kept, old / 0.8, 0), rtol=1e-15)
        assert abs(kept.mean() - 0.8) < 4 * np.sqrt(0.2 * 0.8 / kept.size)
    same(jax.tree.map(lambda w: 0, dropped), jax.tree.map(lambda w: 0, params))
    same(dropped[0]._replace(w_h=0), params[0]._replace(w_h=0))
    same(dropped[1]._replace(layer=dropped[1].layer._replace(w_h=0)),
         params[1]._replace(layer=params[1].layer._replace(w_h=0)))  # fmt: skip
    first, second = (np.asarray(w)[:, :150] != 0 for w in (dropped[0].w_h, dropped[1].layer.w_h))
    assert (first != second).any(), "arrays draw masks of their own"


def test_drop_depends_on_the_key_alone_and_keeps_dtypes():
    same(weights.drop(KEY, PARAMS, 0.5), weights.drop(KEY, PARAMS, 0.5))
    assert (weights.drop(KEY, PARAMS, 0.5)[0].w_h != weights.drop(jax.random.key(2), PARAMS, 0.5)[0].w_h).any()
    same(weights.drop(None, PARAMS, 0.5), PARAMS)
    same(weights.drop(KEY, PARAMS, 0.0), PARAMS)
    low = jax.tree.map(lambda w: w.astype("bfloat16"), PARAMS)
    for change in (lambda p: weights.drop(KEY, p, 0.3), lambda p: weights.noise(KEY, p, 0.3)):
        assert {leaf.dtype.name for leaf in jax.tree.leaves(change(low))} == {"bfloat16"}


def test_drop_is_one_mask_for_all_steps_and_its_gradient_that_of_the_mask():
    params, xs = draw_params(LAYER), draw(5, 2, INPUT)

    def loss(params):
        return (unroll(LAYER, params, xs)[1] ** 2).sum()

    ones = weights.drop(KEY, jax.tree.map(jnp.ones_like, params), 0.5)
    mask = ones[0].w_h
    np.testing.assert_array_equal(np.unique(mask), [0, 2])
    dropped = weights.drop(KEY, params, 0.5)
    np.testing.assert_array_equal(dropped[0].w_h, params[0].w_h * mask)
    grads = jax.jit(jax.grad(lambda p: loss(weights.drop(KEY, p, 0.5))))(params)
    expected = jax.grad(loss)(dropped)
    assert_close(grads[0].w_h, expected[0].w_h * mask, rtol=1e-11)
    assert_close(grads[0].w_x, expected[0].w_x, rtol=1e-11)


def test_noise_has_its_scale_and_reaches_what_is_named():
    params = draw_params(Stack(LSTM(50), LSTM(50)))
    noisy = weights.noise(KEY, params, 0.1, names=["layers_1"])
    same(noisy[0], params[0])
    for new, old in zip(noisy[1], params[1], strict=True):
        difference = np.asarray(new - old)
        assert abs(difference.std() - 0.1) < 4 * 0.1 / np.sqrt(2 * difference.size)
        assert abs(difference.mean()) < 4 * 0.1 / np.sqrt(difference.size)
    same(weights.noise(None, params, 0.1), params)


def test_normalized_weights_begin_as_they_were():
    normed = weights.normalize(PARAMS)
    same(weights.denormalize(normed), PARAMS)
    same(weights.denormalize(PARAMS), PARAMS)
    w_x = np.asarray(PARAMS[0].w_x, float)
    np.testing.assert_allclose(normed[0].w_x.g, np.sqrt((w_x**2).sum(0)), rtol=1e-6)
    same(normed[0].w_x.v, PARAMS[0].w_x)
    same(normed[0].b, PARAMS[0].b)
    assert normed[1].layer.w_h.g.shape == (12,)


def test_normalized_weights_are_length_and_direction():
    g, v = draw(4), draw(3, 4)
    expected = np.stack([g[j] * v[:, j] / np.linalg.norm(v[:, j]) for j in range(4)], axis=1)
    found = weights.denormalize({"a": [weights.Normalized(g, v)], "b": v})
    np.testing.assert_allclose(found["a"][0], expected, rtol=1e-14)
    same(found["b"], v)
    three = weights.normalize({"w": draw(2, 3, 4)}, "w")["w"]
    np.testing.assert_allclose(three.g, np.sqrt((draw(2, 3, 4) ** 2).sum((0, 1))), rtol=1e-14)


def test_gradients_by_length_and_direction_are_those_of_the_paper():
    """Salimans and Kingma 2016, eq. 3."""
    normed, xs = weights.normalize(draw_params(LAYER)), draw(5, 2, INPUT)

    def loss(params):
        return (unroll(LAYER, params, xs)[1] ** 2).sum()

    by_weight = jax.grad(loss)(weights.denormalize(normed))[0].w_h
    found = jax.jit(jax.grad(lambda normed: loss(weights.denormalize(normed))))(normed)[0].w_h
    g, v = normed[0].w_h
    length = np.sqrt((v**2).sum(0))
    by_g = (by_weight * v).sum(0) / length
    np.testing.assert_allclose(found.g, by_g, rtol=1e-9)
    np.testing.assert_allclose(found.v, g / length * by_weight - g * by_g / length**2 * v, rtol=1e-9, atol=1e-12)


def test_columns_of_zeros_stay_zero_with_finite_gradients():
    normed = weights.normalize({"w_h": jnp.zeros((3, 2))}, ["w_h"])
    value, grads = jax.value_and_grad(lambda p: (weights.denormalize(p)["w_h"] + 1).sum())(normed)
    assert value == 6
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(grads))


def test_normalized_parameters_are_saved(tmp_path):
    normed = weights.normalize(PARAMS)
    jaxrnn.save(tmp_path / "model.safetensors", LAYER, normed)
    _, again = jaxrnn.load(tmp_path / "model.safetensors")
    assert jax.tree.structure(again) == jax.tree.structure(normed)
    same(weights.denormalize(again), PARAMS)
