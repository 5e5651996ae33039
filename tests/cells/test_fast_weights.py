"""FastWeights: its equations in NumPy and its own tests."""

import numpy as np
import pytest

import jaxrnn
from tests.support.inputs import INPUT, draw, draw_params
from tests.support.references import Case, Reference, relu

pytestmark = pytest.mark.usefixtures("x64", "quick")


def fast_weights(hidden, decay, rate, inner):
    """Ba et al. 2016, eqs. 1 and 2, with the layer normalization of section 3.2."""

    def step(params, state, x):
        h, a = state
        a = decay * a + rate * np.outer(h, h)
        slow = params.w_h.T @ h + params.w_x.T @ x
        h = relu(slow)
        for _ in range(inner):
            total = slow + a @ h
            mean = sum(total) / hidden
            variance = sum((total - mean) ** 2) / hidden
            h = relu(params.gain * (total - mean) / np.sqrt(variance + 1e-5) + params.b)
        return (h, a), h

    return Reference(step, lambda params: (np.zeros(hidden), np.zeros((hidden, hidden))))


CASE = Case(jaxrnn.FastWeights(4, decay_rate=0.8, learning_rate=0.3, inner_steps=2), fast_weights(4, 0.8, 0.3, 2))


def test_fast_weights_are_the_decayed_sum_of_outer_products():
    cell = jaxrnn.FastWeights(4, decay_rate=0.8, learning_rate=0.3)
    params = draw_params(cell)
    state, hs = jaxrnn.unroll(cell, params, draw(6, INPUT))
    expected = sum(0.8 ** (4 - t) * 0.3 * np.outer(hs[t], hs[t]) for t in range(5))
    np.testing.assert_allclose(state.a, expected, rtol=1e-12)
