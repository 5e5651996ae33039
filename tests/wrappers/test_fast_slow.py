"""FastSlow: its equations in NumPy and its own tests."""

import jax
import numpy as np
import pytest

import jaxrnn
from jaxrnn import GRU, LSTM, FastSlow, unroll
from tests.cells.test_gru import gru
from tests.cells.test_lstm import lstm
from tests.support import references
from tests.support.comparisons import assert_close, flat, to_numpy
from tests.support.inputs import INPUT, draw, draw_params, draw_state
from tests.support.loops import BATCH, TIME
from tests.support.references import Case, Reference

pytestmark = pytest.mark.usefixtures("x64", "quick")


def equals_reference(cell, reference):
    params, xs, resets = draw_params(cell), draw(TIME, BATCH, INPUT), draw(TIME, BATCH) > 0.5
    state, lengths = draw_state(cell, params, (BATCH,)), np.array([TIME, 0, 7])
    last, ys = unroll(cell, params, xs, state, lengths=lengths, resets=resets, reverse=True)
    how = {"lengths": lengths, "resets": resets, "reverse": True}
    assert_close((flat(last), ys), references.run(reference, to_numpy(params), xs, to_numpy(flat(state)), **how))


def fast_slow(fast, slow):
    """Mujika et al. 2017, eqs. 1 to 4."""

    def step(params, state, x):
        number = len(fast[0].initial(params.fast[0]))
        now, slow_state = state[:number], state[number:]
        now, y = fast[0].step(params.fast[0], now, x)
        slow_state, y = slow.step(params.slow, slow_state, y)
        now, y = fast[1].step(params.fast[1], now, y)
        for reference, p in zip(fast[2:], params.fast[2:], strict=True):
            now, y = reference.step(p, now, np.zeros(0))
        return (*now, *slow_state), y

    return Reference(step, lambda params: (*fast[0].initial(params.fast[0]), *slow.initial(params.slow)))


CASE = Case(jaxrnn.FastSlow((jaxrnn.GRU(4),) * 3, jaxrnn.LSTM(2)), fast_slow([gru(4)] * 3, lstm(2)))


def test_two_fast_cells_equal_the_reference():
    cell = FastSlow((LSTM(4), LSTM(4)), LSTM(2))
    equals_reference(cell, fast_slow([lstm(4)] * 2, lstm(2)))


def test_later_fast_cells_have_no_input_weights():
    params = FastSlow((LSTM(4), LSTM(4), LSTM(4)), GRU(2)).init(jax.random.key(0), INPUT)
    assert [p.w_x.shape for p in params.fast] == [(INPUT, 16), (2, 16), (0, 16)]
    assert params.slow.w_x.shape == (4, 6)
    assert (params.fast[0].w_h != params.fast[1].w_h).all()
