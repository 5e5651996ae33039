"""SRU: its equations in NumPy and its own tests."""

import jax
import numpy as np
import pytest

import jaxrnn
from jaxrnn import SRU, unroll
from tests.support.comparisons import assert_close
from tests.support.inputs import INPUT, draw, draw_params
from tests.support.references import Case, Reference, parts, sigmoid, zero_state

pytestmark = pytest.mark.usefixtures("x64", "quick")


def sru(hidden, highway_bias):
    """Lei et al. 2018, eqs. 1 to 4 and section 3.2."""

    def step(params, state, x):
        _, c = state
        w, w_f, w_r, *w_highway = parts(params.w_x, params.w_x.shape[-1] // hidden)
        v_f, v_r = params.w_c
        b_f, b_r = parts(params.b, 2)
        f = sigmoid(w_f @ x + v_f * c + b_f)
        r = sigmoid(w_r @ x + v_r * c + b_r)
        c = f * c + (1 - f) * (w @ x)
        carried = w_highway[0] @ x if w_highway else x
        h = r * c + (1 - r) * carried * np.sqrt(1 + np.exp(highway_bias) * 2)
        return (h, c), h

    return Reference(step, zero_state(hidden, hidden))


CASE = Case(
    jaxrnn.SRU(4, highway_bias=-1.0),
    sru(4, -1),
    variants={
        "highway of the input size": Case(jaxrnn.SRU(4, highway_bias=0.5), sru(4, 0.5)._replace(input_size=4)),
        "projected highway": Case(jaxrnn.SRU(4, highway_bias=0.5), sru(4, 0.5)),
    },
)


def test_sru_keeps_the_variance_of_its_input_at_first():
    xs = draw(8, 16, 128)
    variances = []
    for bias in (0.0, -2.0):
        cell = SRU(128, highway_bias=bias)
        params = cell.init(jax.random.key(0), 128)
        variances.append(float(unroll(cell, params, xs)[1].var() / xs.var()))
    np.testing.assert_allclose(variances, 1, atol=0.25)


def test_symbols_of_an_sru_whose_highway_is_its_input():
    params, symbols = draw_params(SRU(4), input_size=4), np.array([0, 3, 2, 2])
    assert_close(SRU(4).project(params, symbols), SRU(4).project(params, np.eye(4)[symbols]))


@pytest.mark.parametrize("input_size", [INPUT, 4])
def test_the_highway_is_projected_if_sizes_differ(input_size):
    params = draw_params(SRU(4, highway_bias=0.5), input_size=input_size)
    assert params.w_x.shape == (input_size, 12 if input_size == 4 else 16)
