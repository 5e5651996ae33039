"""Using, against NumPy."""

import pytest

import jaxrnn
from jaxrnn import GRU, LSTM, Elman, Stack, Using, loops, unroll
from jaxrnn.loops import Loop, Scan
from tests.support.comparisons import assert_close
from tests.support.inputs import draw_all

pytestmark = pytest.mark.usefixtures("x64", "quick")
TIME, BATCH = 5, 3


class Noted(Loop):
    """Runs as `Scan`, and notes for which cell."""

    def __init__(self):
        self.cells = []

    def __call__(self, cell, params, steps, state):
        self.cells.append(cell)
        return Scan()(cell, params, steps, state)


EXAMPLE = jaxrnn.Using(jaxrnn.LSTM(4), loops.Scan(unroll=2))


def test_using_runs_its_layer_on_its_own_loop():
    own, given = Noted(), Noted()
    layer = Stack(LSTM(4), Using(Stack(GRU(3), Elman(2)), own), GRU(2))
    params, _, xs, _ = draw_all(layer, TIME, BATCH)
    unroll(layer, params, xs[:2], loop=given)  # the first call checks the parameters by an `init`, which runs layers
    own.cells.clear()
    given.cells.clear()
    _, ys = unroll(layer, params, xs, loop=given)
    assert own.cells == [GRU(3), Elman(2)]
    assert given.cells == [LSTM(4), GRU(2)]
    assert_close(ys, unroll(Stack(LSTM(4), GRU(3), Elman(2), GRU(2)), (params[0], *params[1], params[2]), xs)[1])
