"""DenselyConnected, against NumPy."""

import numpy as np
import pytest

import jaxrnn
from jaxrnn import GRU, LSTM, DenselyConnected, Elman, unroll
from tests.cells.test_elman import elman
from tests.cells.test_gru import gru
from tests.cells.test_lstm import lstm
from tests.support import references
from tests.support.comparisons import assert_close
from tests.support.inputs import INPUT, draw_all

pytestmark = pytest.mark.usefixtures("x64", "quick")
TIME, BATCH = 5, 3

EXAMPLE = jaxrnn.DenselyConnected(jaxrnn.GRU(4), jaxrnn.Elman(2))


def test_densely_connected():
    layer = DenselyConnected(LSTM(4), Elman(2), GRU(3))
    params, (p_lstm, p_elman, p_gru), xs, _ = draw_all(layer, TIME, BATCH)
    assert p_elman.w_x.shape[0] == INPUT + 4
    assert p_gru.w_x.shape[0] == INPUT + 4 + 2
    _, one = references.run(lstm(4), p_lstm, xs)
    _, two = references.run(elman(2), p_elman, np.concatenate([xs, one], -1))
    _, three = references.run(gru(3), p_gru, np.concatenate([xs, one, two], -1))
    assert_close(unroll(layer, params, xs)[1], np.concatenate([xs, one, two, three], -1))
