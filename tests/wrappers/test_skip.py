"""Skip: its equations in NumPy and its own tests."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxrnn
from jaxrnn import GRU, LSTM, Skip, unroll
from tests.cells.test_lstm import lstm
from tests.support.comparisons import assert_close
from tests.support.inputs import INPUT, draw, draw_params
from tests.support.loops import BATCH, TIME
from tests.support.references import Case, Reference, sigmoid

pytestmark = pytest.mark.usefixtures("x64", "quick")


def clocked(cell, probability, input_size=INPUT):
    """Parameters under which the update gate's increment is the same at all steps."""
    params = draw_params(cell, input_size=input_size)
    return params._replace(w=jnp.zeros_like(params.w), b=jnp.full(1, np.log(probability / (1 - probability))))


def skip(reference):
    """Campos et al. 2018, eqs. 2 to 5, for cells whose output is h, their first state.

    Under complex steps u is rounded straight through: its derivative is that of what is rounded.
    """

    def step(params, state, x):
        *old, update, updates = state
        u = np.round(np.clip(update.real, 0, 1)) + 1j * update.imag if np.iscomplexobj(update) else float(update > 0.5)
        new, _ = reference.step(params.cell, tuple(old), x)
        new = tuple(u * s + (1 - u) * before for s, before in zip(new, old, strict=True))
        increment = sigmoid(params.w[:, 0] @ np.concatenate(new) + params.b[0])
        room = 1 - update
        grown = update + (increment if increment.real < room.real else room)
        return (*new, u * increment + (1 - u) * grown, updates + u), new[0]

    return Reference(step, lambda params: (*reference.initial(params.cell), np.float64(1), np.float64(0)))


CASE = Case(jaxrnn.Skip(jaxrnn.LSTM(4)), skip(lstm(4)))


@pytest.mark.parametrize(("probability", "every"), [(0.7, 1), (0.3, 2), (0.2, 3), (0.11, 5)])
def test_skip_updates_at_some_steps_and_copies_at_all_others(probability, every):
    cell = Skip(LSTM(4))
    params, xs = clocked(cell, probability), draw(12, BATCH, INPUT)
    state, ys = unroll(cell, params, xs)
    updated = np.arange(12) % every == 0
    np.testing.assert_array_equal(state.updates, np.full(BATCH, updated.sum()))
    inner, expected = unroll(LSTM(4), params.cell, xs[updated])
    assert_close((ys[updated], state.cell), (expected, inner))
    np.testing.assert_array_equal(ys, ys[np.arange(12) // every * every])  # bit for bit


def test_skip_counts_the_updates_of_each_sequence():
    cell = Skip(GRU(4))
    params, xs = clocked(cell, 0.3), draw(9, BATCH, INPUT)
    resets = np.zeros((9, BATCH), bool)
    resets[4, 2] = True
    state, _ = unroll(cell, params, xs, lengths=np.array([9, 0, 8]), resets=resets)
    np.testing.assert_array_equal(state.updates, [5, 0, 2])
    state, _ = unroll(cell, params, xs, lengths=np.array([9, 0, 8]), resets=resets, reverse=True)
    np.testing.assert_array_equal(state.updates, [5, 0, 2])  # steps 3 to 0 after the restart


def test_skip_is_differentiated_straight_through():
    """By hand: u = 1, 0, 1, and with p = 0.3 and p' = p (1 - p) the count's derivative by b is p' + p' (2 - p)."""
    cell = Skip(GRU(4))
    params, xs = clocked(cell, 0.3), draw(3, INPUT)
    grads = jax.grad(lambda p: unroll(cell, p, xs)[0].updates)(params)
    np.testing.assert_allclose(grads.b, [0.21 + 0.21 * 1.7], rtol=1e-12)
    assert grads.w.any()


def test_skip_copies_whole_numbers_too_and_reads_complex_ones():
    params = clocked(Skip(jaxrnn.ClockworkRNN(4, periods=(1, 8))), 0.3)
    state, _ = unroll(Skip(jaxrnn.ClockworkRNN(4, periods=(1, 8))), params, draw(6, INPUT))
    assert state.cell.t == 3
    assert jnp.issubdtype(state.cell.t.dtype, jnp.integer)
    cell = Skip(jaxrnn.LRU(3, 2))
    params = draw_params(cell)
    assert params.w.shape == (6, 1)
    state, _ = unroll(cell, params, draw(1, INPUT))
    s = np.asarray(state.cell.s)
    expected = sigmoid(np.concatenate([s.real, s.imag]) @ params.w[:, 0] + params.b[0])
    np.testing.assert_allclose(state.update, expected, rtol=1e-12)


def test_skip_begins_with_an_update_at_every_step():
    cell = Skip(LSTM(4))
    state, _ = unroll(cell, cell.init(jax.random.key(0), INPUT), 0.1 * draw(TIME, BATCH, INPUT))
    np.testing.assert_array_equal(state.updates, np.full(BATCH, TIME))
