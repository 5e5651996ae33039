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


@pytest.mark.parametrize("batch_shape", [(), (2,), (2, 3)], ids=str)
def test_layers_without_a_state_are_functions_of_one_step(batch_shape):
    head = jaxrnn.Stack(Dense(5), jax.nn.relu, jaxrnn.Residual(Dense(5)))
    params, x = draw_params(head), draw(*batch_shape, INPUT)
    hidden = np.maximum(x @ params[0].w + params[0].b, 0)
    assert_close(head(params, x), hidden @ params[2].w + params[2].b + hidden)


def test_a_called_layer_reads_symbols_and_is_random_with_a_key():
    layer = jaxrnn.Stack(jaxrnn.Embedding(1000), jaxrnn.Dropout(0.5))
    params = draw_params(layer)
    rows = to_numpy(params[0].w)[[2, 0]]
    assert_close(layer(params, np.array([2, 0])), rows)
    dropped = to_numpy(layer(params, np.array([2, 0]), key=jax.random.key(0)))
    assert_close(dropped[dropped != 0], 2 * rows[dropped != 0])
    assert 0.4 < (dropped == 0).mean() < 0.6


def test_a_cell_without_a_state_is_called_within_a_stack():
    cell = jaxrnn.adopt(lambda params, state, x: (state, x * params), lambda params, batch_shape: ())
    layer = jaxrnn.Stack(cell, Dense(2))
    params = (np.float64(3), draw_params(Dense(2)))
    x = draw(BATCH, INPUT)
    assert_close(layer(params, x), 3 * x @ params[1].w + params[1].b)


def test_initial_values():
    params = to_numpy(Dense(100).init(jax.random.key(0), 50))
    assert not params.b.any()
    assert 0.98 * np.sqrt(6 / 150) < np.abs(params.w).max() <= np.sqrt(6 / 150)
