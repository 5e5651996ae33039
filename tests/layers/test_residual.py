"""Residual, against NumPy."""

import numpy as np
import pytest

import jaxrnn
from jaxrnn import LSTM, Residual, unroll
from tests.cells.test_lstm import lstm
from tests.support import references
from tests.support.comparisons import assert_close, to_numpy
from tests.support.inputs import INPUT, draw_all

pytestmark = pytest.mark.usefixtures("x64", "quick")
LENGTHS = np.array([5, 0, 3])
TIME, BATCH = 5, 3

EXAMPLE = jaxrnn.Residual(jaxrnn.LSTM(INPUT))


def test_residual():
    layer = Residual(LSTM(INPUT))
    params, p, xs, state = draw_all(layer, TIME, BATCH)
    last, ys = unroll(layer, params, xs, state, lengths=LENGTHS)
    expected_last, inner = references.run(lstm(INPUT), p, xs, to_numpy(tuple(state)), lengths=LENGTHS)
    valid = (np.arange(TIME)[:, None] < LENGTHS)[..., None]
    assert_close((tuple(last), ys), (expected_last, np.where(valid, xs + inner, 0)))
