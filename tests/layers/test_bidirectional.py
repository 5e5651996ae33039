"""Bidirectional, against NumPy."""

import operator
import pickle

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxrnn
from jaxrnn import GRU, LSTM, Bidirectional, Elman, Stack, unroll
from tests.cells.test_elman import elman
from tests.cells.test_gru import gru
from tests.cells.test_lstm import lstm
from tests.support import references
from tests.support.comparisons import assert_close, to_numpy
from tests.support.inputs import draw_all

pytestmark = pytest.mark.usefixtures("x64", "quick")
both_ways = pytest.mark.parametrize("reverse", [False, True], ids=["forward", "reverse"])
MERGES = {
    "concat": (jaxrnn.layers.concat, lambda a, b: np.concatenate([a, b], -1)),
    "sum": (operator.add, np.add),
    "own": (jnp.minimum, np.minimum),
}
LENGTHS = np.array([5, 0, 3])
TIME, BATCH = 5, 3

EXAMPLE = jaxrnn.Bidirectional(jaxrnn.GRU(4), backward=jaxrnn.LSTM(2))


@both_ways
@pytest.mark.parametrize("merge", MERGES)
def test_bidirectional(merge, reverse):
    ours, numpys = MERGES[merge]
    layer = Bidirectional(LSTM(4), backward=GRU(4), merge=ours)
    params, p, xs, state = draw_all(layer, TIME, BATCH)
    last, ys = unroll(layer, params, xs, state, lengths=LENGTHS, reverse=reverse)
    begin = to_numpy(state)
    how = {"lengths": LENGTHS}
    forward = references.run(lstm(4), p.forward, xs, tuple(begin.forward), reverse=reverse, **how)
    backward = references.run(gru(4), p.backward, xs, tuple(begin.backward), reverse=not reverse, **how)
    assert_close((last, ys), ((forward[0], backward[0]), numpys(forward[1], backward[1])))


@both_ways
def test_bidirectional_keeps_packed_sequences_apart(reverse):
    """Each packed sequence comes out as if run alone, whichever direction counts as forward."""
    layer = Bidirectional(LSTM(4), backward=GRU(2))
    params, p, xs, _ = draw_all(layer, TIME, BATCH)
    xs = xs[:, 0]
    pieces = [slice(0, 2), slice(2, 3), slice(3, 5)]
    resets = np.zeros(TIME, bool)
    resets[[piece.start for piece in pieces]] = True
    _, ys = unroll(layer, params, xs, resets=resets, reverse=reverse)
    for piece in pieces:
        _, forward = references.run(lstm(4), p.forward, xs[piece], reverse=reverse)
        _, backward = references.run(gru(2), p.backward, xs[piece], reverse=not reverse)
        assert_close(ys[piece], np.concatenate([forward, backward], -1))


@both_ways
def test_bidirectional_packed_and_padded(reverse):
    layer = Bidirectional(GRU(3))
    params, p, xs, state = draw_all(layer, TIME, BATCH)
    xs, begin = xs[:, 0], jax.tree.map(lambda leaf: leaf[0], state)
    resets = np.array([False, False, True, False, True])  # the last one is in the padding
    last, ys = unroll(layer, params, xs, begin, lengths=np.array(4), resets=resets, reverse=reverse)
    begin = to_numpy(begin)
    expected = np.zeros((TIME, 6))
    pieces = [slice(0, 2), slice(2, 4)]
    first_read = {"forward": pieces[-1 if reverse else 0], "backward": pieces[0 if reverse else -1]}
    for piece in pieces:
        for name, columns in [("forward", slice(0, 3)), ("backward", slice(3, 6))]:
            state = tuple(getattr(begin, name)) if piece == first_read[name] else None
            backwards = reverse == (name == "forward")
            s, expected[piece, columns] = references.run(gru(3), getattr(p, name), xs[piece], state, reverse=backwards)
            if piece != first_read[name]:
                assert_close(getattr(last, name), s)
    assert_close(ys, expected)


def test_bidirectional_within_a_stack_and_twice():
    layer = Stack(Bidirectional(GRU(3)), Bidirectional(Bidirectional(Elman(2))))
    params, p, xs, _ = draw_all(layer, TIME, BATCH)
    _, a = references.run(gru(3), p[0].forward, xs)
    _, b = references.run(gru(3), p[0].backward, xs, reverse=True)
    middle = np.concatenate([a, b], -1)
    outs = [
        references.run(elman(2), getattr(getattr(p[1], outer), inner), middle, reverse=outer != inner)[1]
        for outer in ("forward", "backward")
        for inner in ("forward", "backward")
    ]
    assert_close(unroll(layer, params, xs)[1], np.concatenate(outs, -1))


def test_directions_are_drawn_independently():
    params = Bidirectional(LSTM(4)).init(jax.random.key(0), 4)
    assert (params.forward.w_x != params.backward.w_x).all()


@pytest.mark.parametrize(
    "merge", [jnp.add, jnp.minimum, jnp.hypot, operator.add, max], ids=lambda merge: merge.__name__
)
def test_a_layer_with_any_merge_that_has_a_name_can_be_pickled(merge):
    layer = Bidirectional(Elman(4), merge=merge)
    again = pickle.loads(pickle.dumps(layer))
    assert again == layer
    assert again.merge is merge
