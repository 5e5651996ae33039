"""Cells are values: equal, hashable, immutable, and readable."""

import jax
import pytest

import jaxrnn
from jaxrnn import LSTM, RecurrentDropout, Zoneout
from tests.support.inputs import INPUT, draw

pytestmark = pytest.mark.usefixtures("x64", "quick")
TIME, BATCH = 5, 2


def test_equal_cells_compile_once():
    traces = []

    @jax.tree_util.Partial(jax.jit, static_argnums=0)
    def run(cell, params, xs):
        traces.append(cell)
        return jaxrnn.unroll(cell, params, xs)

    params = LSTM(4).init(jax.random.key(0), INPUT)
    for _ in range(3):
        run(LSTM(4), params, draw(TIME, INPUT))
    assert len(traces) == 1


def test_repr_reads_as_the_call():
    cell = Zoneout(LSTM(4), rate=0.1)
    assert repr(cell) == "Zoneout(cell=LSTM(hidden_size=4, forget_bias=1.0), rate=0.1)"
    assert repr(jaxrnn.Elman(4, activation=jax.nn.relu)) == "Elman(hidden_size=4, activation=relu)"
    assert repr(RecurrentDropout(LSTM(2), 0.5)) != repr(RecurrentDropout(LSTM(2), 0.25))


def test_cells_cannot_be_changed():
    with pytest.raises(AttributeError):
        LSTM(4).hidden_size = 5
