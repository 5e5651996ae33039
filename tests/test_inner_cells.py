"""Cells that run others inside their step: against the cells of the papers, by hand, and nested."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import references
from tables import INPUT, assert_close, draw, draw_params, draw_state, flat, to_numpy
from test_loops import BATCH, TIME, compare

import jaxrnn
from jaxrnn import GRU, LSTM, Elman, FastSlow, Mogrifier, Multiplicative, RecurrentDropout, Skip, Stack, Zoneout, unroll
from jaxrnn.inner import hidden, with_hidden
from jaxrnn.loops import Deferred
from jaxrnn.ops import sigmoid, tanh

pytestmark = pytest.mark.usefixtures("x64", "quick")


def value_and_gradient(cell, params, xs, **how):
    def loss(args):
        last, ys = unroll(cell, args[0], args[1], **how)
        return (jnp.cos(jnp.arange(ys.size)).reshape(ys.shape) * ys).sum() + (hidden(last) ** 3).sum(), (last, ys)

    return jax.jit(jax.value_and_grad(loss, has_aux=True))((params, xs))


def equals_reference(cell, reference):
    params, xs, resets = draw_params(cell), draw(TIME, BATCH, INPUT), draw(TIME, BATCH) > 0.5
    state, lengths = draw_state(cell, params, (BATCH,)), np.array([TIME, 0, 7])
    last, ys = unroll(cell, params, xs, state, lengths=lengths, resets=resets, reverse=True)
    how = {"lengths": lengths, "resets": resets, "reverse": True}
    assert_close((flat(last), ys), references.run(reference, to_numpy(params), xs, to_numpy(flat(state)), **how))


# ---- the hidden state ------------------------------------------------------------------------------------------------


def test_hidden_is_the_field_h_or_the_first_down_to_an_array():
    array, other, new = (np.full(2, value) for value in (1.0, 2.0, 3.0))
    lstm = jaxrnn.LSTMState(h=array, c=other)
    memory = jaxrnn.MemoryControllerLSTMState(h=array, v=other, c=other)
    for state in (array, lstm, memory, (array, other), jaxrnn.CoRNNState(array, other), ((lstm, other), other)):
        assert hidden(state) is array
        changed = with_hidden(state, new)
        assert hidden(changed) is new
        assert jax.tree.structure(changed) == jax.tree.structure(state)
        assert [leaf is new for leaf in jax.tree.leaves(changed)] == [leaf is array for leaf in jax.tree.leaves(state)]


# ---- multiplicative --------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class KrauseLSTM(LSTM):
    """The LSTM of Krause et al. 2016: the candidate is not squashed, and the output gate stands inside the tanh."""

    def step(self, params, state, z):
        i, f, g, o = jnp.split(z + state.h @ params.w_h, 4, axis=-1)
        c = sigmoid(f) * state.c + sigmoid(i) * g
        return jaxrnn.LSTMState(h=tanh(sigmoid(o) * c), c=c)


def test_multiplicative_of_the_papers_lstm_is_multiplicative_lstm():
    cell, xs = Multiplicative(KrauseLSTM(4)), draw(TIME, BATCH, INPUT)
    params = draw_params(cell)

    def of_the_paper(params):
        (w_x, w_m, b), w_xm, w_h = params
        return jaxrnn.MultiplicativeLSTMParams(jnp.concatenate([w_xm, w_x], axis=1), w_h, w_m, b)

    _, grads = one = value_and_gradient(cell, params, xs)
    _, expected = other = value_and_gradient(jaxrnn.MultiplicativeLSTM(4), of_the_paper(params), xs)
    assert_close(one[0], other[0])
    assert_close((of_the_paper(grads[0]), grads[1]), expected, rtol=1e-9)


@pytest.mark.parametrize("cell", [GRU(4), jaxrnn.CoRNN(4)], ids=["GRU", "CoRNN"])
def test_multiplicative_puts_m_in_the_place_of_h(cell):
    around = Multiplicative(cell)
    params, xs = draw_params(around), draw(1, INPUT)
    state = draw_state(around, params, ())
    m = (xs[0] @ params.w_x) * (state[0] @ params.w_h)
    expected = unroll(cell, params.cell, xs, state._replace(**{state._fields[0]: m}))
    assert_close(unroll(around, params, xs, state), expected)


# ---- mogrifier -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rank", [None, 2])
def test_mogrifier_of_an_lstm_is_mogrifier_lstm(rank):
    cell, xs = Mogrifier(LSTM(4), 4, rank), draw(TIME, BATCH, INPUT)
    params = draw_params(cell)

    def flattened(params):
        return jaxrnn.MogrifierLSTMParams(*params.cell, params.q, params.r)

    _, grads = one = value_and_gradient(cell, params, xs)
    _, expected = other = value_and_gradient(jaxrnn.MogrifierLSTM(4, 4, rank), flattened(params), xs)
    assert_close(one[0], other[0])
    assert_close((flattened(grads[0]), grads[1]), expected, rtol=1e-9)
    drawn, of_the_cell = cell.init(jax.random.key(0), INPUT), jaxrnn.MogrifierLSTM(4, 4, rank).init
    assert jax.tree.map(jnp.shape, flattened(drawn)) == jax.tree.map(jnp.shape, of_the_cell(jax.random.key(0), INPUT))


# ---- fast and slow ---------------------------------------------------------------------------------------------------


def test_two_fast_cells_equal_the_reference():
    cell = FastSlow((LSTM(4), LSTM(4)), LSTM(2))
    equals_reference(cell, references.fast_slow([references.lstm(4)] * 2, references.lstm(2)))


def test_later_fast_cells_have_no_input_weights():
    params = FastSlow((LSTM(4), LSTM(4), LSTM(4)), GRU(2)).init(jax.random.key(0), INPUT)
    assert [p.w_x.shape for p in params.fast] == [(INPUT, 16), (2, 16), (0, 16)]
    assert params.slow.w_x.shape == (4, 6)
    assert (params.fast[0].w_h != params.fast[1].w_h).all()


# ---- skip ------------------------------------------------------------------------------------------------------------


def clocked(cell, probability, input_size=INPUT):
    """Parameters under which the update gate's increment is the same at all steps."""
    params = draw_params(cell, input_size=input_size)
    return params._replace(w=jnp.zeros_like(params.w), b=jnp.full(1, np.log(probability / (1 - probability))))


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
    np.testing.assert_array_equal(state.updates, [5, 0, 3])


def test_skip_is_differentiated_straight_through():
    """By hand: u = 1, 0, 1, and with p = 0.3 and p' = p (1 - p) the count's derivative by b is p' + p' (2 - p)."""
    cell = Skip(GRU(4))
    params, xs = clocked(cell, 0.3), draw(3, INPUT)
    grads = jax.grad(lambda p: unroll(cell, p, xs)[0].updates)(params)
    np.testing.assert_allclose(grads.b, [0.21 + 0.21 * 1.7], rtol=1e-12)
    assert grads.w.any()


def test_skip_copies_whole_numbers_too_and_reads_complex_ones():
    params = clocked(Skip(jaxrnn.ClockworkRNN(4, (1, 8))), 0.3)
    state, _ = unroll(Skip(jaxrnn.ClockworkRNN(4, (1, 8))), params, draw(6, INPUT))
    assert state.cell.t == 3
    assert jnp.issubdtype(state.cell.t.dtype, jnp.integer)
    cell = Skip(jaxrnn.LRU(3, 2))
    params = draw_params(cell)
    assert params.w.shape == (6, 1)
    state, _ = unroll(cell, params, draw(1, INPUT))
    s = np.asarray(state.cell.s)
    expected = references.sigmoid(np.concatenate([s.real, s.imag]) @ params.w[:, 0] + params.b[0])
    np.testing.assert_allclose(state.update, expected, rtol=1e-12)


def test_skip_begins_with_an_update_at_every_step():
    cell = Skip(LSTM(4))
    state, _ = unroll(cell, cell.init(jax.random.key(0), INPUT), 0.1 * draw(TIME, BATCH, INPUT))
    np.testing.assert_array_equal(state.updates, np.full(BATCH, TIME))


# ---- nested, and with keys -------------------------------------------------------------------------------------------


def test_wrappers_within_each_other_equal_the_reference():
    inner = references.skip(references.lstm(4))
    equals_reference(Multiplicative(Skip(LSTM(4))), references.multiplicative(inner))
    fast = [references.multiplicative(references.lstm(3)), references.lstm(3)]
    slow = references.mogrifier(references.gru(2), 3)
    equals_reference(
        FastSlow((Multiplicative(LSTM(3)), LSTM(3)), Mogrifier(GRU(2), 3)), references.fast_slow(fast, slow)
    )


def test_every_loop_equals_scan_when_cells_within_cells_are_random():
    fast = (Mogrifier(Zoneout(Elman(2), 0.3), 1), Zoneout(Elman(2), 0.2))
    cell = FastSlow(fast, Skip(RecurrentDropout(Elman(2), 0.5)))
    how = {"lengths": np.array([TIME, 0, 7]), "resets": draw(TIME, BATCH) > 0.7, "reverse": True}
    compare(cell, Deferred(checkpoint_every=7, block=3), key=jax.random.key(1), **how)


@pytest.mark.parametrize(
    "around",
    [lambda cell: Mogrifier(cell, 1), lambda cell: FastSlow((LSTM(100), cell), GRU(3))],
    ids=["mogrifier", "fast and slow"],
)
def test_cells_inside_draw_their_own_masks(around):
    """Two masks of rate 1/2 agree on half of the units, and another half for another sequence."""
    cell = around(Zoneout(LSTM(100), jaxrnn.LSTMState(h=0.0, c=0.5)))
    params, xs = draw_params(cell), draw(1, 20, INPUT)
    one, other = (unroll(cell, params, xs, key=jax.random.key(seed))[0] for seed in (0, 1))
    one, other = (np.asarray(getattr(state, "fast", state).c) for state in (one, other))
    same = one == other
    assert abs(same.mean() - 0.5) < 4 * np.sqrt(0.25 / same.size)
    assert (same[0] != same[1]).any()


def test_stack_of_all():
    layer = Stack(Skip(Multiplicative(LSTM(4))), Mogrifier(FastSlow((GRU(4), GRU(4)), LSTM(2)), 2), jaxrnn.Dense(2))
    params, xs = draw_params(layer), draw(4, BATCH, INPUT)
    state, ys = unroll(layer, params, xs)
    now, found, step = layer.initial_state(params, (BATCH,)), [], jax.jit(jaxrnn.step, static_argnums=0)
    for x in xs:
        now, y = step(layer, params, now, x)
        found.append(y)
    assert_close((now, np.stack(found)), (state, ys))
