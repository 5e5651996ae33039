"""Cells around a cell: what their masks do, found from the outside, and their gradients.

No test knows how keys are split: which mask was drawn is read off the outputs.
"""

from dataclasses import dataclass
from itertools import product

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import references
from tables import CELLS, INPUT, assert_close, draw, draw_params, draw_state, to_numpy

import jaxrnn
from jaxrnn import GRU, LSTM, Elman, LearnedInitialState, RecurrentDropout, Zoneout, step, unroll

pytestmark = pytest.mark.usefixtures("x64", "quick")
TIME, BATCH = 6, 2


def key(seed=0):
    return jax.random.key(seed)


# ---- zoneout ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class ShownLSTM(LSTM):
    """An LSTM that puts out its whole state."""

    def readout(self, params, state, z):
        return jnp.concatenate([state.h, state.c], axis=-1)


def states_of(ys):
    return tuple(np.split(np.asarray(ys), 2, axis=-1))


def test_zoneout_keeps_each_unit_or_updates_it():
    cell = Zoneout(ShownLSTM(4), jaxrnn.LSTMState(h=0.3, c=0.6))
    params, xs, state = draw_params(cell), draw(TIME, BATCH, INPUT), draw_state(cell, draw_params(cell), (BATCH,))
    last, ys = unroll(cell, params, xs, state, key=key())
    reference, p = references.lstm(4), to_numpy(params)
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
    cell = Zoneout(ShownLSTM(50), jaxrnn.LSTMState(h=0.1, c=0.5))
    params = draw_params(cell)
    _, ys = unroll(cell, params, draw(41, 20, INPUT), key=key())
    for leaf, rate in zip(states_of(ys), (0.1, 0.5), strict=True):
        kept = leaf[1:] == leaf[:-1]
        assert abs(kept.mean() - rate) < 4 * np.sqrt(rate * (1 - rate) / kept.size)


@pytest.mark.parametrize("seed", [None, 0])
def test_zoneout_at_rate_zero_is_the_cell(seed):
    params, xs = draw_params(GRU(4)), draw(TIME, BATCH, INPUT)
    how = {} if seed is None else {"key": key(seed)}
    assert_close(unroll(Zoneout(GRU(4), 0.0), params, xs, **how), unroll(GRU(4), params, xs))


def test_one_rate_is_for_all_of_the_state():
    params, xs = draw_params(LSTM(4)), draw(TIME, BATCH, INPUT)
    one, two = Zoneout(LSTM(4), 0.3), Zoneout(LSTM(4), jaxrnn.LSTMState(0.3, 0.3))
    for how in ({}, {"key": key()}):
        assert_close(unroll(one, params, xs, **how), unroll(two, params, xs, **how))


def test_gradient_of_zoneout_is_that_of_its_masks():
    cell = Zoneout(Elman(3), 0.5)
    params, xs = draw_params(cell), draw(TIME, INPUT)
    _, ys = unroll(cell, params, xs, key=key())
    kept = np.asarray(ys) == np.concatenate([np.zeros((1, 3)), ys[:-1]])
    assert kept.any()
    assert not kept.all()

    def expected(leaves):
        p, h, total = jaxrnn.ElmanParams(*leaves), np.zeros(3), 0.0
        for t in range(TIME):
            h = np.where(kept[t], h, np.tanh(p.w_x.T @ xs[t] + p.w_h.T @ h + p.b))
            total = total + (h**2).sum()
        return total

    grads = jax.grad(lambda params: (unroll(cell, params, xs, key=key())[1] ** 2).sum())(params)
    assert_close(grads, references.gradient(expected, to_numpy(params)), rtol=1e-11)


# ---- recurrent dropout -----------------------------------------------------------------------------------------------

RATE = 0.5
RECURRENT = ("w_h", "w_a", "w_p")  # the weights that multiply something of the loop
PLAIN = [name for name, case in CELLS.items() if type(case.cell).__module__.startswith("jaxrnn.cells")]
SMALL = {
    name: (type(CELLS[name].cell)(*size), getattr(references, reference)(*size))
    for name, reference, size in [
        ("Elman", "elman", (3,)),
        ("LSTM", "lstm", (3,)),
        ("GRU", "gru", (3,)),
        ("ResetBeforeGRU", "reset_before_gru", (3,)),
        ("ResetAfterMGU", "reset_after_mgu", (3,)),
        ("PeepholeLSTM", "peephole_lstm", (3,)),
        ("ProjectedLSTM", "projected_lstm", (3, 2)),
    ]
}


def test_every_cell_is_tried_under_recurrent_dropout():
    assert set(SMALL) == set(PLAIN)


def all_dropped(params):
    """The parameters under every mask: dropping what a matrix multiplies is dropping the matrix's rows."""
    names = [name for name in RECURRENT if name in params._fields]
    sizes = [getattr(params, name).shape[0] for name in names]
    for bits in product([0, 1], repeat=sum(sizes)):
        masks = np.split(np.array(bits), np.cumsum(sizes)[:-1])
        dropped = {n: getattr(params, n) * (m / (1 - RATE))[:, None] for n, m in zip(names, masks, strict=True)}
        yield bits, params._replace(**dropped)


def masks_found(reference, params, xs, state, ys):
    """All masks that give these outputs of one sequence if held over all steps."""
    found = []
    for bits, dropped in all_dropped(params):
        last, expected = references.run(reference, dropped, xs, state)
        if np.allclose(expected, ys, rtol=1e-11, atol=1e-13):
            found.append((bits, dropped, last))
    return found


@pytest.mark.parametrize("name", SMALL)
def test_recurrent_dropout_holds_one_mask_over_all_steps(name):
    """Exactly one of all masks explains the outputs of a sequence: of Gal's, not one anew at every step."""
    cell, reference = SMALL[name]
    dropped = RecurrentDropout(cell, RATE)
    params = draw_params(cell)
    xs, state = draw(TIME, 4, INPUT), draw_state(cell, params, (4,))
    last, ys = unroll(dropped, params, xs, state, key=key(3))
    bits = []
    for n in range(4):
        begin = tuple(np.asarray(leaf)[n] for leaf in state)
        found = masks_found(reference, to_numpy(params), xs[:, n], begin, np.asarray(ys[:, n]))
        assert len(found) == 1
        assert_close(tuple(leaf[n] for leaf in last), found[0][2], rtol=1e-11)
        bits.append(found[0][0])
    assert len(set(bits)) > 1, "sequences draw their own masks"


def test_gradient_of_recurrent_dropout_is_that_of_its_mask():
    cell, reference = SMALL["GRU"]
    params, xs = draw_params(cell), draw(TIME, INPUT)
    dropped = RecurrentDropout(cell, RATE)
    _, ys = unroll(dropped, params, xs, key=key(5))
    ((bits, _, _),) = masks_found(reference, to_numpy(params), xs, None, np.asarray(ys))
    assert 0 < sum(bits) < len(bits)

    def expected(leaves):
        p = jaxrnn.GRUParams(*leaves)
        p = p._replace(w_h=p.w_h * (np.array(bits) / (1 - RATE))[:, None])
        return (references.run(reference, p, xs)[1] ** 2).sum()

    grads = jax.grad(lambda params: (unroll(dropped, params, xs, key=key(5))[1] ** 2).sum())(params)
    assert_close(grads, references.gradient(expected, to_numpy(params)), rtol=1e-11)


def test_recurrent_dropout_leaves_a_gated_memory_alone():
    """A GRU whose update gate is open only to its state keeps it, whatever is dropped."""
    params = jax.tree.map(jnp.zeros_like, GRU(4).init(key(), INPUT))
    params = params._replace(b=params.b.at[4:8].set(100.0))
    state = draw_state(GRU(4), params, (BATCH,))
    last, _ = unroll(RecurrentDropout(GRU(4), 0.9), params, draw(50, BATCH, INPUT), state, key=key())
    assert_close(last, state)


def test_recurrent_dropout_drops_at_its_rate():
    """An identity for a recurrent matrix shows the mask: h = m * s / (1 - p) after one step."""
    cell = RecurrentDropout(Elman(100, lambda x: x), 0.2)
    params = jaxrnn.ElmanParams(jnp.zeros((1, 100)), jnp.eye(100), jnp.zeros(100))
    state = jaxrnn.ElmanState(jnp.ones((200, 100)))
    h = np.asarray(unroll(cell, params, np.zeros((1, 200, 1)), state, key=key(1))[1])
    np.testing.assert_allclose(np.unique(h), [0, 1.25], rtol=1e-12)
    assert abs((h == 0).mean() - 0.2) < 4 * np.sqrt(0.2 * 0.8 / h.size)


def test_recurrent_dropout_run_step_by_step_draws_anew():
    cell = RecurrentDropout(Elman(64, lambda x: x), 0.5)
    params = jaxrnn.ElmanParams(jnp.zeros((1, 64)), jnp.eye(64), jnp.zeros(64))
    ones = jaxrnn.ElmanState(jnp.ones(64))
    one, other = (step(cell, params, ones, np.zeros(1), key=key(seed))[1] for seed in (0, 1))
    assert (one != other).any()


def test_recurrent_dropout_in_evaluation_is_the_cell():
    params, xs = draw_params(GRU(4)), draw(TIME, BATCH, INPUT)
    one, other = unroll(RecurrentDropout(GRU(4), 0.5), params, xs), unroll(GRU(4), params, xs)
    jax.tree.map(np.testing.assert_array_equal, one, other)


def test_wrappers_within_each_other_draw_independently():
    """Zoneout around recurrent dropout: units kept are as many for dropped as for other units."""
    cell = Zoneout(RecurrentDropout(Elman(2000, lambda x: x), 0.5), 0.5)
    params = jaxrnn.ElmanParams(jnp.zeros((1, 2000)), jnp.zeros((2000, 2000)), jnp.zeros(2000))
    params = params._replace(w_h=jnp.eye(2000))
    (h,), _ = unroll(cell, params, np.zeros((1, 1)), jaxrnn.ElmanState(jnp.ones(2000)), key=key())
    values, counts = np.unique(np.asarray(h), return_counts=True)
    np.testing.assert_allclose(values, [0, 1, 2])  # updated and dropped, kept, updated and not dropped
    np.testing.assert_allclose(counts / 2000, [0.25, 0.5, 0.25], atol=0.05)


# ---- learned initial state -------------------------------------------------------------------------------------------


def test_learned_initial_state_begins_at_zero_and_is_used():
    cell = LearnedInitialState(LSTM(4))
    params = cell.init(key(), INPUT)
    assert not any(leaf.any() for leaf in params.state)
    params = params._replace(state=jaxrnn.LSTMState(jnp.arange(4.0), -jnp.arange(4.0)))
    h, c = cell.initial_state(params, (2, 3))
    np.testing.assert_array_equal(h, np.broadcast_to(np.arange(4.0), (2, 3, 4)))
    np.testing.assert_array_equal(c, -h)
    assert {leaf.dtype for leaf in cell.initial_state(params, (), "float16")} == {np.dtype("float16")}
    xs = draw(TIME, BATCH, INPUT)
    begin = jaxrnn.LSTMState(h[0, :BATCH], c[0, :BATCH])
    assert_close(unroll(cell, params, xs), unroll(LSTM(4), params.cell, xs, begin))


def test_gradient_of_the_learned_initial_state():
    """Without a state given, and through resets when one is."""
    cell, reference = LearnedInitialState(GRU(3)), references.learned_initial_state(references.gru(3))
    params, xs = draw_params(cell), draw(TIME, BATCH, INPUT)
    resets = np.zeros((TIME, BATCH), bool)
    resets[3, 1] = True
    leaves, tree = jax.tree.flatten(params)
    for state in (None, draw_state(cell, params, (BATCH,))):
        given = None if state is None else to_numpy(tuple(state))

        def expected(leaves, given=given):
            return (references.run(reference, tree.unflatten(leaves), xs, given, resets=resets)[1] ** 2).sum()

        grads = jax.grad(lambda p, s=state: (unroll(cell, p, xs, s, resets=resets)[1] ** 2).sum())(params)
        assert_close(grads, references.gradient(expected, to_numpy(leaves)), rtol=1e-11)
        assert grads.state.h.all()


def test_zoneout_leaves_whole_numbers_alone():
    cell = jaxrnn.ClockworkRNN(4, (1, 8))
    params, xs = draw_params(cell), draw(TIME, BATCH, INPUT)
    expected = jaxrnn.unroll(cell, params, xs)[0].t
    for key in (None, jax.random.key(0)):
        state, _ = jaxrnn.unroll(jaxrnn.Zoneout(cell, 0.5), params, xs, key=key)
        np.testing.assert_array_equal(state.t, expected)
