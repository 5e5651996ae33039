"""GRUD: its equations in NumPy and its own tests."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxrnn
from tests.support import references
from tests.support.comparisons import to_numpy
from tests.support.inputs import draw, draw_params
from tests.support.references import Case, Reference, parts, sigmoid

pytestmark = pytest.mark.usefixtures("x64", "quick")
KEY = jax.random.key(0)


def gru_d(hidden):
    """Che et al. 2018, eqs. of GRU-D; the time since the last observation as in the paper's definition of delta."""

    def step(params, state, x):
        h, last, age = state
        size = len(last)
        x, m, gap = x[:size], x[size : 2 * size], x[2 * size]
        w_r, w_z, w = parts(params.w_x, 3)
        v_r, v_z, v = parts(params.w_m, 3)
        u_r, u_z = parts(params.w_h, 2)
        b_r, b_z, b = parts(params.b, 3)
        delta = gap + age  # age is 0 for what the step before observed
        gamma_x = np.exp(-np.maximum(0, np.diag(params.w_dx) @ delta + params.b_dx))
        gamma_h = np.exp(-np.maximum(0, params.w_dh.T @ delta + params.b_dh))
        x_hat = m * x + (1 - m) * (gamma_x * last + (1 - gamma_x) * params.mean)
        h_hat = gamma_h * h
        r = sigmoid(w_r @ x_hat + u_r @ h_hat + v_r @ m + b_r)
        z = sigmoid(w_z @ x_hat + u_z @ h_hat + v_z @ m + b_z)
        candidate = np.tanh(w @ x_hat + params.w_a.T @ (r * h_hat) + v @ m + b)
        h = (1 - z) * h_hat + z * candidate
        return (h, m * x + (1 - m) * last, (1 - m) * delta), h

    return Reference(step, lambda params: (np.zeros(hidden), params.mean, np.zeros_like(params.mean)))


def missing_values():
    """Two values at uneven times, some of them missing; NaN where they are."""
    values, mask = draw(7, 3, 2), (draw(7, 3, 2, seed=1) > -0.2).astype(float)
    mask[0, 0] = 0  # nothing observed at first
    gaps = np.abs(draw(7, 3, 1))
    gaps[0] = 0
    return np.concatenate([np.where(mask == 0, np.nan, values), mask, gaps], -1), mask


CASE = Case(jaxrnn.GRUD(4), gru_d(4), reads_symbols=False)


def test_gru_d_with_missing_values():
    cell = jaxrnn.GRUD(4)
    params, (xs, mask) = draw_params(cell, input_size=5), missing_values()
    state, ys = jaxrnn.unroll(cell, params, xs)
    known = np.concatenate([np.where(mask == 0, 0, xs[..., :2]), xs[..., 2:]], -1)
    expected, expected_ys = references.run(gru_d(4), to_numpy(params), known)
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
