"""Zoneout: its equations in NumPy and its own tests."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxrnn
from jaxrnn import GRU, LSTM, Elman, Zoneout, unroll
from tests.cells.test_lstm import lstm
from tests.support import references
from tests.support.comparisons import assert_close, to_numpy
from tests.support.inputs import INPUT, draw, draw_params, draw_state
from tests.support.references import Case

pytestmark = pytest.mark.usefixtures("x64", "quick")
TIME, BATCH = 6, 2


def key(seed=0):
    return jax.random.key(seed)


def zoneout(reference, rates):
    """Krueger et al. 2017 in evaluation: the expectation of keeping. For cells whose output is h, their first state."""

    def step(params, state, x):
        new, _ = reference.step(params, state, x)
        state = tuple(p * old + (1 - p) * s for p, old, s in zip(rates, state, new, strict=True))
        return state, state[0]

    return reference._replace(step=step)


@dataclass(frozen=True)
class ShownLSTM(LSTM):
    """An LSTM that outputs its whole state."""

    def readout(self, params, state, z):
        return jnp.concatenate([state.h, state.c], axis=-1)


def states_of(ys):
    return tuple(np.split(np.asarray(ys), 2, axis=-1))


CASE = Case(jaxrnn.Zoneout(jaxrnn.LSTM(4), rate=jaxrnn.cells.LSTMState(h=0.1, c=0.4)), zoneout(lstm(4), (0.1, 0.4)))


def test_zoneout_keeps_each_unit_or_updates_it():
    cell = Zoneout(ShownLSTM(4), rate=jaxrnn.cells.LSTMState(h=0.3, c=0.6))
    params, xs, state = draw_params(cell), draw(TIME, BATCH, INPUT), draw_state(cell, draw_params(cell), (BATCH,))
    last, ys = unroll(cell, params, xs, state, key=key())
    reference, p = lstm(4), to_numpy(params)
    kept = []
    for n in range(BATCH):
        old = tuple(np.asarray(leaf)[n] for leaf in state)
        for t in range(TIME):
            now = tuple(leaf[t, n] for leaf in states_of(ys))
            new, _ = reference.step(p, old, xs[t, n])
            for was, becomes, is_now in zip(old, new, now, strict=True):
                keeps, updates = was == is_now, np.isclose(becomes, is_now, rtol=1e-12, atol=0)
                assert (keeps ^ updates).all()
                kept.append(keeps)
            old = now
        assert_close(tuple(leaf[n] for leaf in last), old)
    kept = np.array(kept).reshape(BATCH, TIME, 2, 4)
    assert (kept[0] != kept[1]).any()  # between sequences
    assert (kept[:, 1:] != kept[:, :-1]).any()  # between steps
    assert (kept[:, :, 0] != kept[:, :, 1]).any()  # between the arrays of the state


def test_zoneout_keeps_at_its_rates():
    """Kept units of a state that never repeats are those equal to the step before."""
    cell = Zoneout(ShownLSTM(50), rate=jaxrnn.cells.LSTMState(h=0.1, c=0.5))
    params = draw_params(cell)
    _, ys = unroll(cell, params, draw(41, 20, INPUT), key=key())
    for leaf, rate in zip(states_of(ys), (0.1, 0.5), strict=True):
        kept = leaf[1:] == leaf[:-1]
        assert abs(kept.mean() - rate) < 4 * np.sqrt(rate * (1 - rate) / kept.size)


@pytest.mark.parametrize("seed", [None, 0])
def test_zoneout_at_rate_zero_is_the_cell(seed):
    params, xs = draw_params(GRU(4)), draw(TIME, BATCH, INPUT)
    how = {} if seed is None else {"key": key(seed)}
    assert_close(unroll(Zoneout(GRU(4), rate=0.0), params, xs, **how), unroll(GRU(4), params, xs))


def test_one_rate_is_for_all_of_the_state():
    params, xs = draw_params(LSTM(4)), draw(TIME, BATCH, INPUT)
    one, two = Zoneout(LSTM(4), rate=0.3), Zoneout(LSTM(4), rate=jaxrnn.cells.LSTMState(0.3, 0.3))
    for how in ({}, {"key": key()}):
        assert_close(unroll(one, params, xs, **how), unroll(two, params, xs, **how))


def test_gradient_of_zoneout_is_that_of_its_masks():
    cell = Zoneout(Elman(3), rate=0.5)
    params, xs = draw_params(cell), draw(TIME, INPUT)
    _, ys = unroll(cell, params, xs, key=key())
    kept = np.asarray(ys) == np.concatenate([np.zeros((1, 3)), ys[:-1]])
    assert kept.any()
    assert not kept.all()

    def expected(leaves):
        p, h, total = jaxrnn.cells.ElmanParams(*leaves), np.zeros(3), 0.0
        for t in range(TIME):
            h = np.where(kept[t], h, np.tanh(p.w_x.T @ xs[t] + p.w_h.T @ h + p.b))
            total = total + (h**2).sum()
        return total

    grads = jax.grad(lambda params: (unroll(cell, params, xs, key=key())[1] ** 2).sum())(params)
    assert_close(grads, references.gradient(expected, to_numpy(params)), rtol=1e-11)


def test_zoneout_leaves_whole_numbers_alone():
    cell = jaxrnn.ClockworkRNN(4, periods=(1, 8))
    params, xs = draw_params(cell), draw(TIME, BATCH, INPUT)
    expected = jaxrnn.unroll(cell, params, xs)[0].t
    for key in (None, jax.random.key(0)):
        state, _ = jaxrnn.unroll(jaxrnn.Zoneout(cell, rate=0.5), params, xs, key=key)
        np.testing.assert_array_equal(state.t, expected)
