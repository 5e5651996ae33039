"""Layers made of layers, each against NumPy references put together by hand."""

import operator
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import references
from references import sigmoid
from tables import INPUT, assert_close, draw, draw_params, draw_state, to_numpy

import jaxrnn
from jaxrnn import (
    GRU,
    LSTM,
    Bidirectional,
    Dense,
    DenselyConnected,
    Elman,
    Embedding,
    Highway,
    Residual,
    Stack,
    Using,
    unroll,
)
from jaxrnn.loops import Loop, Scan

pytestmark = pytest.mark.usefixtures("x64", "quick")
TIME, BATCH = 5, 3

both_ways = pytest.mark.parametrize("reverse", [False, True], ids=["forward", "reverse"])
LENGTHS = np.array([5, 0, 3])


def prepare(layer, input_size=INPUT):
    params = draw_params(layer, input_size=input_size)
    return params, to_numpy(params), draw(TIME, BATCH, input_size), draw_state(layer, params, (BATCH,))


@both_ways
def test_stack(reverse):
    layer = Stack(LSTM(4), GRU(2))
    params, (p_lstm, p_gru), xs, state = prepare(layer)
    resets = draw(TIME, BATCH) > 0.5
    last, ys = unroll(layer, params, xs, state, lengths=LENGTHS, resets=resets, reverse=reverse)
    how = {"lengths": LENGTHS, "resets": resets, "reverse": reverse}
    s_lstm, hidden = references.run(references.lstm(4), p_lstm, xs, to_numpy(tuple(state[0])), **how)
    s_gru, expected = references.run(references.gru(2), p_gru, hidden, to_numpy(tuple(state[1])), **how)
    assert_close((last, ys), ((s_lstm, s_gru), expected))


def test_stack_inits_each_layer_for_what_it_reads():
    params = Stack(Embedding(5), Bidirectional(LSTM(4)), Dense(7), Elman(2)).init(jax.random.key(0), 11)
    shapes = jax.tree.map(jnp.shape, params)
    assert shapes[0].w == (11, 5)
    assert shapes[1].forward.w_x == shapes[1].backward.w_x == (5, 16)
    assert shapes[2].w == (8, 7)
    assert shapes[3].w_x == (7, 2)


def test_layers_of_a_stack_are_drawn_independently():
    one, other = Stack(LSTM(4), LSTM(4)).init(jax.random.key(0), 4)
    assert (one.w_x != other.w_x).all()
    assert (one.w_h != other.w_h).all()


def test_densely_connected():
    layer = DenselyConnected(LSTM(4), Elman(2), GRU(3))
    params, (p_lstm, p_elman, p_gru), xs, _ = prepare(layer)
    assert p_elman.w_x.shape[0] == INPUT + 4
    assert p_gru.w_x.shape[0] == INPUT + 4 + 2
    _, one = references.run(references.lstm(4), p_lstm, xs)
    _, two = references.run(references.elman(2), p_elman, np.concatenate([xs, one], -1))
    _, three = references.run(references.gru(3), p_gru, np.concatenate([xs, one, two], -1))
    assert_close(unroll(layer, params, xs)[1], np.concatenate([xs, one, two, three], -1))


def test_residual():
    layer = Residual(LSTM(INPUT))
    params, p, xs, state = prepare(layer)
    last, ys = unroll(layer, params, xs, state, lengths=LENGTHS)
    expected_last, inner = references.run(references.lstm(INPUT), p, xs, to_numpy(tuple(state)), lengths=LENGTHS)
    valid = (np.arange(TIME)[:, None] < LENGTHS)[..., None]
    assert_close((tuple(last), ys), (expected_last, np.where(valid, xs + inner, 0)))


def test_highway():
    layer = Highway(GRU(INPUT), transform_bias=-2.0)
    params, p, xs, _ = prepare(layer)
    _, inner = references.run(references.gru(INPUT), p.layer, xs)
    t = np.array([[sigmoid(p.w.T @ x + p.b) for x in step] for step in xs])
    assert_close(unroll(layer, params, xs)[1], t * inner + (1 - t) * xs)
    np.testing.assert_array_equal(layer.init(jax.random.key(0), INPUT).b, [-2, -2, -2])


# ---- bidirectional ---------------------------------------------------------------------------------------------------

MERGES = {
    "concat": (jaxrnn.concat, lambda a, b: np.concatenate([a, b], -1)),
    "sum": (operator.add, np.add),
    "own": (jnp.minimum, np.minimum),
}


@both_ways
@pytest.mark.parametrize("merge", MERGES)
def test_bidirectional(merge, reverse):
    ours, numpys = MERGES[merge]
    layer = Bidirectional(LSTM(4), GRU(4), ours)
    params, p, xs, state = prepare(layer)
    last, ys = unroll(layer, params, xs, state, lengths=LENGTHS, reverse=reverse)
    begin = to_numpy(state)
    how = {"lengths": LENGTHS}
    forward = references.run(references.lstm(4), p.forward, xs, tuple(begin.forward), reverse=reverse, **how)
    backward = references.run(references.gru(4), p.backward, xs, tuple(begin.backward), reverse=not reverse, **how)
    assert_close((last, ys), ((forward[0], backward[0]), numpys(forward[1], backward[1])))


@both_ways
def test_bidirectional_keeps_packed_sequences_apart(reverse):
    """Each packed sequence comes out as if run alone, whichever direction counts as forward."""
    layer = Bidirectional(LSTM(4), GRU(2))
    params, p, xs, _ = prepare(layer)
    xs = xs[:, 0]
    pieces = [slice(0, 2), slice(2, 3), slice(3, 5)]
    resets = np.zeros(TIME, bool)
    resets[[piece.stop - 1 if reverse else piece.start for piece in pieces]] = True
    _, ys = unroll(layer, params, xs, resets=resets, reverse=reverse)
    for piece in pieces:
        _, forward = references.run(references.lstm(4), p.forward, xs[piece], reverse=reverse)
        _, backward = references.run(references.gru(2), p.backward, xs[piece], reverse=not reverse)
        assert_close(ys[piece], np.concatenate([forward, backward], -1))


@both_ways
def test_bidirectional_packed_and_padded(reverse):
    layer = Bidirectional(GRU(3))
    params, p, xs, state = prepare(layer)
    xs, begin = xs[:, 0], jax.tree.map(lambda leaf: leaf[0], state)
    resets = np.array([False, False, True, False, True])  # the last lies in the padding
    last, ys = unroll(layer, params, xs, begin, lengths=np.array(4), resets=resets, reverse=reverse)
    begin = to_numpy(begin)
    expected = np.zeros((TIME, 6))
    pieces = [slice(0, 3), slice(3, 4)] if reverse else [slice(0, 2), slice(2, 4)]
    first_read = {"forward": pieces[-1 if reverse else 0], "backward": pieces[0 if reverse else -1]}
    for piece in pieces:
        for name, columns in [("forward", slice(0, 3)), ("backward", slice(3, 6))]:
            state = tuple(getattr(begin, name)) if piece == first_read[name] else None
            backwards = reverse == (name == "forward")
            s, expected[piece, columns] = references.run(
                references.gru(3), getattr(p, name), xs[piece], state, reverse=backwards
            )
            if piece != first_read[name]:
                assert_close(getattr(last, name), s)
    assert_close(ys, expected)


def test_bidirectional_within_a_stack_and_twice():
    layer = Stack(Bidirectional(GRU(3)), Bidirectional(Bidirectional(Elman(2))))
    params, p, xs, _ = prepare(layer)
    _, a = references.run(references.gru(3), p[0].forward, xs)
    _, b = references.run(references.gru(3), p[0].backward, xs, reverse=True)
    middle = np.concatenate([a, b], -1)
    outs = [
        references.run(references.elman(2), getattr(getattr(p[1], outer), inner), middle, reverse=outer != inner)[1]
        for outer in ("forward", "backward")
        for inner in ("forward", "backward")
    ]
    assert_close(unroll(layer, params, xs)[1], np.concatenate(outs, -1))


def test_directions_are_drawn_independently():
    params = Bidirectional(LSTM(4)).init(jax.random.key(0), 4)
    assert (params.forward.w_x != params.backward.w_x).all()


# ---- gradients and loops ---------------------------------------------------------------------------------------------


def test_gradient_of_a_deep_layer_equals_complex_differences():
    layer = Stack(Bidirectional(GRU(2), Elman(2), operator.add), Residual(Elman(2)))
    params, _, xs, _ = prepare(layer, 2)
    leaves, tree = jax.tree.flatten((params, xs))

    def expected(leaves):
        (both, residual), xs = jax.tree.unflatten(tree, leaves)
        _, forward = references.run(references.gru(2), both.forward, xs, lengths=LENGTHS)
        _, backward = references.run(references.elman(2), both.backward, xs, lengths=LENGTHS, reverse=True)
        _, ys = references.run(references.elman(2), residual, forward + backward, lengths=LENGTHS)
        valid = (np.arange(TIME)[:, None] < LENGTHS)[..., None]
        return ((valid * (forward + backward) + ys) ** 3).sum()

    def loss(leaves):
        params, xs = jax.tree.unflatten(tree, leaves)
        return (unroll(layer, params, xs, lengths=LENGTHS)[1] ** 3).sum()

    assert_close(jax.grad(loss)(leaves), references.gradient(expected, to_numpy(leaves)), rtol=1e-11)


class Noted(Loop):
    """Runs as `Scan`, and notes for which cell."""

    def __init__(self):
        self.cells = []

    def __call__(self, cell, params, xs, state, key, plan):
        self.cells.append(cell)
        return Scan()(cell, params, xs, state, key, plan)


def test_using_runs_its_layer_on_its_own_loop():
    own, given = Noted(), Noted()
    layer = Stack(LSTM(4), Using(Stack(GRU(3), Elman(2)), own), GRU(2))
    params, _, xs, _ = prepare(layer)
    own.cells.clear()
    _, ys = unroll(layer, params, xs, loop=given)
    assert own.cells == [GRU(3), Elman(2)]
    assert given.cells == [LSTM(4), GRU(2)]
    assert_close(ys, unroll(Stack(LSTM(4), GRU(3), Elman(2), GRU(2)), (params[0], *params[1], params[2]), xs)[1])


def test_each_layer_draws_from_a_key_of_its_own():
    layer = Stack(jaxrnn.Dropout(0.5), jaxrnn.Dropout(0.5))
    ones = np.ones((50, 100))
    kept = np.asarray(unroll(layer, ((), ()), ones, key=jax.random.key(0))[1] != 0).mean()
    assert 0.22 < kept < 0.28  # 0.5 * 0.5; with one mask for both it would be 0.5
    twice = Bidirectional(jaxrnn.Dropout(0.5), merge=operator.mul)
    kept = np.asarray(unroll(twice, twice.init(jax.random.key(0), 100), ones, key=jax.random.key(0))[1] != 0).mean()
    assert 0.22 < kept < 0.28


def test_equal_layers_compile_once():
    traces = []

    @partial(jax.jit, static_argnums=0)
    def run(layer, params, xs):
        traces.append(layer)
        return unroll(layer, params, xs)

    for _ in range(3):
        layer = Stack(Bidirectional(LSTM(2)), Residual(GRU(4)))
        run(layer, layer.init(jax.random.key(0), INPUT), draw(TIME, INPUT))
    assert len(traces) == 1
