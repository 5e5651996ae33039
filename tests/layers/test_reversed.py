"""Reversed, against NumPy."""

import numpy as np
import pytest

import jaxrnn
from jaxrnn import GRU, LSTM, Bidirectional, Reversed, Stack, unroll
from tests.cells.test_lstm import lstm
from tests.support import references
from tests.support.comparisons import assert_close, to_numpy
from tests.support.inputs import INPUT, draw, draw_params, draw_state

pytestmark = pytest.mark.usefixtures("x64", "quick")
both_ways = pytest.mark.parametrize("reverse", [False, True], ids=["forward", "reverse"])
BATCH = 3

EXAMPLE = jaxrnn.Reversed(jaxrnn.LSTM(4))


@both_ways
def test_reversed_is_the_backward_layer_of_bidirectional(reverse):
    layer, both = Reversed(LSTM(4)), Bidirectional(GRU(2), backward=LSTM(4))
    params, xs = draw_params(both), draw(5, BATCH, INPUT)
    state = draw_state(both, params, (BATCH,))
    how = {"lengths": np.array([5, 0, 3]), "resets": draw(5, BATCH) > 0.5, "reverse": reverse}
    expected_last, expected = unroll(both, params, xs, state, **how)
    last, ys = unroll(layer, params.backward, xs, state.backward, **how)
    assert_close((last, ys), (expected_last.backward, expected[..., 2:]))


def test_directions_take_turns_in_a_stack():
    layer = Stack(LSTM(4), Reversed(LSTM(4)), LSTM(4))
    params, xs = draw_params(layer), draw(5, BATCH, INPUT)
    ys, lengths = xs, np.array([5, 0, 3])
    for p, reverse in zip(to_numpy(params), (False, True, False), strict=True):
        _, ys = references.run(lstm(4), p, ys, lengths=lengths, reverse=reverse)
    assert_close(unroll(layer, params, xs, lengths=lengths)[1], ys)
