"""The gated recurrent unit's relatives: their arguments, symbols, and what the catalogue's inputs do not show."""

from functools import partial

import catalogue_gru
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import references
from tables import draw, draw_params, to_numpy

import jaxrnn

pytestmark = pytest.mark.usefixtures("x64", "quick")
KEY = jax.random.key(0)
RAW = {"MUT1", "MUT2", "IntersectionRNN", "GRUD"}  # they read the input as it is: symbols need an embedding


def compare(cell, reference, input_size=3):
    params, xs = draw_params(cell, input_size=input_size), draw(6, 2, input_size)
    last, ys = jaxrnn.unroll(cell, params, xs)
    expected_last, expected = references.run(reference, to_numpy(params), xs)
    np.testing.assert_allclose(ys, expected, rtol=1e-12, atol=1e-14)
    for leaf, other in zip(last, expected_last, strict=True):
        np.testing.assert_allclose(np.reshape(leaf, (2, -1)), other, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("name", sorted(set(catalogue_gru.CELLS) - RAW))
def test_symbols_are_one_hot_vectors(name):
    cell = catalogue_gru.CELLS[name].cell
    params, symbols = draw_params(cell), np.array([[0, 2], [1, 1], [2, 0]])
    ys = jaxrnn.unroll(cell, params, symbols)[1]
    np.testing.assert_allclose(ys, jaxrnn.unroll(cell, params, np.eye(3)[symbols])[1], rtol=1e-12)


@pytest.mark.parametrize("bias", [1.5, jaxrnn.Chrono(100)], ids=repr)
@pytest.mark.parametrize(
    ("kind", "argument", "place", "sign"),
    [
        (jaxrnn.MGU, "keep_bias", 0, -1),
        (jaxrnn.LiGRU, "update_bias", 0, 1),
        (jaxrnn.LightRU, "keep_bias", 0, -1),
        (jaxrnn.CFN, "forget_bias", 0, 1),
        (jaxrnn.MUT1, "keep_bias", 0, -1),
        (jaxrnn.MUT2, "keep_bias", 0, -1),
        (jaxrnn.MUT3, "keep_bias", 0, -1),
        (jaxrnn.UGRNN, "forget_bias", 0, 1),
        (jaxrnn.IntersectionRNN, "forget_bias", 0, 1),
        (jaxrnn.SGRN, "forget_bias", 0, 1),
        (jaxrnn.SGU, "keep_bias", 0, -1),
        (jaxrnn.DSGU, "keep_bias", 0, -1),
        (jaxrnn.MinimalRNN, "update_bias", 0, 1),
        (jaxrnn.BRC, "keep_bias", 1, 1),
        (jaxrnn.NBRC, "keep_bias", 1, 1),
        (jaxrnn.STAR, "keep_bias", 0, -1),
        (jaxrnn.FastGRNN, "update_bias", 0, 1),
        (jaxrnn.LayerNormGRU, "keep_bias", 0, -1),
        (partial(jaxrnn.TauGRU, delay_size=2), "keep_bias", 1, -1),
    ],
    ids=lambda value: getattr(value, "__name__", str(value)).split("(")[0],
)
def test_a_bias_keeps_the_state(kind, argument, place, sign, bias):
    """Where the bias stands and its sign, and that a larger one makes the state last longer."""
    n = 33
    b = to_numpy(kind(n, **{argument: bias}).init(KEY, n).b)
    keep, rest = sign * b[place * n : place * n + n], np.delete(b, slice(place * n, place * n + n))
    if isinstance(bias, float):
        np.testing.assert_array_equal(keep, bias)
        assert not rest.any()
    else:
        assert 0 <= keep.min() < np.log(30) < keep.max() <= np.log(99)
    lost = []
    for value in (0.0, 8.0):
        cell = kind(n, **{argument: value})
        params = cell.init(KEY, n)
        state, x = cell.initial_state(params), 0.3 * draw(n)
        one, other = (jaxrnn.step(cell, params, state._replace(h=jnp.full(n, h)), x)[0].h for h in (0.1, -0.1))
        lost.append(jnp.abs(one - other - 0.2).mean())
    assert lost[1] < lost[0] / 2


def test_activations():
    compare(jaxrnn.UGRNN(4, activation=jax.nn.relu), catalogue_gru.ugrnn(catalogue_gru.relu))
    compare(jaxrnn.FastRNN(4, activation=jax.nn.relu), catalogue_gru.fast_rnn(catalogue_gru.relu))
    cell = jaxrnn.IntersectionRNN(4, activation=jax.nn.relu)
    compare(cell, catalogue_gru.intersection_rnn(4, 3, catalogue_gru.relu))


def test_intersection_rnn_puts_out_as_much_as_comes_in():
    cell = jaxrnn.Stack(jaxrnn.IntersectionRNN(5), jaxrnn.IntersectionRNN(2))
    assert jaxrnn.unroll(cell, cell.init(KEY, 3), draw(4, 2, 3))[1].shape == (4, 2, 3)
    params = to_numpy(jaxrnn.IntersectionRNN(5, pass_bias=1.5).init(KEY, 2))
    np.testing.assert_array_equal(params.b_y, [1.5, 1.5, 0, 0])


def test_initial_weights_of_the_fast_ones():
    params = to_numpy(jaxrnn.FastRNN(3).init(KEY, 2))
    assert (params.alpha, params.beta) == (-3, 3)
    params = to_numpy(jaxrnn.FastGRNN(3, zeta=0.5, nu=-2.0).init(KEY, 2))
    assert (params.zeta, params.nu) == (0.5, -2)


@pytest.mark.parametrize("delay", [1, 3])
def test_tau_gru_of_another_delay(delay):
    compare(jaxrnn.TauGRU(4, delay), catalogue_gru.tau_gru(4, delay))


def test_recurrent_highway_network_of_one_layer():
    compare(jaxrnn.RecurrentHighwayNetwork(4, 1), catalogue_gru.recurrent_highway_network(1))
    params = to_numpy(jaxrnn.RecurrentHighwayNetwork(2, 3, transform_bias=-1.5).init(KEY, 2))
    np.testing.assert_array_equal(params.b, [[0, 0, -1.5, -1.5]] * 3)


def test_layer_norm_gru_does_not_see_the_scale_of_its_weights():
    cell = jaxrnn.LayerNormGRU(4, epsilon=0.0)
    params, xs = draw_params(cell), draw(5, 3)
    state = jaxrnn.LayerNormGRUState(draw(4))
    scaled = params._replace(w_x=7 * params.w_x, w_h=params.w_h / 3)
    one, other = (jaxrnn.unroll(cell, p, xs, state)[1] for p in (params, scaled))
    np.testing.assert_allclose(one, other, rtol=1e-12)
    assert jnp.isfinite(jaxrnn.unroll(jaxrnn.LayerNormGRU(4), params, xs)[1]).all()  # from zeros


def missing_values():
    """Two values at uneven times, some of them missing; NaN where they are."""
    values, mask = draw(7, 3, 2), (draw(7, 3, 2, seed=1) > -0.2).astype(float)
    mask[0, 0] = 0  # nothing observed at first
    gaps = np.abs(draw(7, 3, 1))
    gaps[0] = 0
    return np.concatenate([np.where(mask == 0, np.nan, values), mask, gaps], -1), mask


def test_gru_d_with_missing_values():
    cell = jaxrnn.GRUD(4)
    params, (xs, mask) = draw_params(cell, input_size=5), missing_values()
    state, ys = jaxrnn.unroll(cell, params, xs)
    known = np.concatenate([np.where(mask == 0, 0, xs[..., :2]), xs[..., 2:]], -1)
    expected, expected_ys = references.run(catalogue_gru.gru_d(4), to_numpy(params), known)
    np.testing.assert_allclose(ys, expected_ys, rtol=1e-12)
    for leaf, other in zip(state, expected, strict=True):
        np.testing.assert_allclose(leaf, other, rtol=1e-12)
    grads = jax.grad(lambda p: (jaxrnn.unroll(cell, p, xs)[1] ** 2).sum())(params)
    assert all(jnp.isfinite(leaf).all() and (leaf != 0).any() for leaf in jax.tree.leaves(grads))


def test_gru_d_measures_the_time_since_each_value_was_observed():
    cell = jaxrnn.GRUD(4)
    params, (xs, mask) = cell.init(KEY, 5), missing_values()
    state, _ = jaxrnn.unroll(cell, params, xs)
    times = np.cumsum(xs[..., 4], 0)
    for n in range(3):
        for value in range(2):
            observed = np.flatnonzero(mask[:, n, value])[-1]
            np.testing.assert_allclose(state.age[n, value], times[-1, n] - times[observed, n], atol=1e-12)
            assert state.x[n, value] == xs[observed, n, value]


def test_gru_d_reads_an_odd_number_of_features():
    for size in (1, 4):
        with pytest.raises(ValueError, match=rf"the input size must be 2 \* d \+ 1, but it is {size}$"):
            jaxrnn.GRUD(4).init(KEY, size)
