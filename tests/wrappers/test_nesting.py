"""Wrappers around wrappers."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxrnn
from jaxrnn import GRU, LSTM, Elman, FastSlow, Mogrifier, Multiplicative, RecurrentDropout, Skip, Stack, Zoneout, unroll
from jaxrnn.loops import Deferred
from jaxrnn.testing import check_cell
from tests.cells.test_gru import gru
from tests.cells.test_lstm import lstm
from tests.support import references
from tests.support.comparisons import assert_close, flat, to_numpy
from tests.support.inputs import INPUT, draw, draw_params, draw_state
from tests.support.loops import BATCH, TIME, compare
from tests.wrappers.test_fast_slow import fast_slow
from tests.wrappers.test_mogrifier import mogrifier
from tests.wrappers.test_multiplicative import multiplicative
from tests.wrappers.test_skip import skip

pytestmark = pytest.mark.usefixtures("x64", "quick")


def key(seed=0):
    return jax.random.key(seed)


def equals_reference(cell, reference):
    params, xs, resets = draw_params(cell), draw(TIME, BATCH, INPUT), draw(TIME, BATCH) > 0.5
    state, lengths = draw_state(cell, params, (BATCH,)), np.array([TIME, 0, 7])
    last, ys = unroll(cell, params, xs, state, lengths=lengths, resets=resets, reverse=True)
    how = {"lengths": lengths, "resets": resets, "reverse": True}
    assert_close((flat(last), ys), references.run(reference, to_numpy(params), xs, to_numpy(flat(state)), **how))


def test_wrappers_within_each_other_equal_the_reference():
    inner = skip(lstm(4))
    equals_reference(Multiplicative(Skip(LSTM(4))), multiplicative(inner))
    fast = [multiplicative(lstm(3)), lstm(3)]
    slow = mogrifier(gru(2), 3)
    equals_reference(FastSlow((Multiplicative(LSTM(3)), LSTM(3)), Mogrifier(GRU(2), rounds=3)), fast_slow(fast, slow))


@pytest.mark.slow
def test_every_loop_equals_scan_when_cells_within_cells_are_random():
    fast = (Mogrifier(Zoneout(Elman(2), rate=0.3), rounds=1), Zoneout(Elman(2), rate=0.2))
    cell = FastSlow(fast, Skip(RecurrentDropout(Elman(2), 0.5)))
    how = {"lengths": np.array([TIME, 0, 7]), "resets": draw(TIME, BATCH) > 0.7, "reverse": True}
    compare(cell, Deferred(checkpoint_every=7, block=3), key=jax.random.key(1), **how)


@pytest.mark.parametrize(
    "around",
    [lambda cell: Mogrifier(cell, rounds=1), lambda cell: FastSlow((LSTM(100), cell), GRU(3))],
    ids=["mogrifier", "fast and slow"],
)
def test_cells_inside_draw_their_own_masks(around):
    """Two masks of rate 1/2 agree on half of the units, and another half for another sequence."""
    cell = around(Zoneout(LSTM(100), rate=jaxrnn.cells.LSTMState(h=0.0, c=0.5)))
    params, xs = draw_params(cell), draw(1, 20, INPUT)
    one, other = (unroll(cell, params, xs, key=jax.random.key(seed))[0] for seed in (0, 1))
    one, other = (np.asarray(getattr(state, "fast", state).c) for state in (one, other))
    same = one == other
    assert abs(same.mean() - 0.5) < 4 * np.sqrt(0.25 / same.size)
    assert (same[0] != same[1]).any()


def test_stack_of_all():
    layer = Stack(
        Skip(Multiplicative(LSTM(4))), Mogrifier(FastSlow((GRU(4), GRU(4)), LSTM(2)), rounds=2), jaxrnn.Dense(2)
    )
    params, xs = draw_params(layer), draw(4, BATCH, INPUT)
    state, ys = unroll(layer, params, xs)
    now, found, step = layer.initial_state(params, (BATCH,)), [], jax.jit(jaxrnn.step, static_argnums=0)
    for x in xs:
        now, y = step(layer, params, now, x)
        found.append(y)
    assert_close((now, np.stack(found)), (state, ys))


def test_wrappers_within_each_other_draw_independently():
    """Zoneout around recurrent dropout: units kept are as many for dropped as for other units."""
    cell = Zoneout(RecurrentDropout(Elman(2000, activation=lambda x: x), 0.5), rate=0.5)
    params = jaxrnn.cells.ElmanParams(jnp.zeros((1, 2000)), jnp.zeros((2000, 2000)), jnp.zeros(2000))
    params = params._replace(w_h=jnp.eye(2000))
    (h,), _ = unroll(cell, params, np.zeros((1, 1)), jaxrnn.cells.ElmanState(jnp.ones(2000)), key=key())
    values, counts = np.unique(np.asarray(h), return_counts=True)
    np.testing.assert_allclose(values, [0, 1, 2])  # updated and dropped, kept, updated and not dropped
    np.testing.assert_allclose(counts / 2000, [0.25, 0.5, 0.25], atol=0.05)


def test_cells_nest():
    check_cell(jaxrnn.LearnedInitialState(Zoneout(jaxrnn.Elman(5, activation=jnp.sin), rate=0.3)), rtol=1e-9)
