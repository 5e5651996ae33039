"""Stack, against NumPy references one after the other."""

import operator
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxrnn
from jaxrnn import GRU, LSTM, Bidirectional, Dense, Elman, Embedding, Residual, Stack, unroll
from tests.cells.test_elman import elman
from tests.cells.test_gru import gru
from tests.cells.test_lstm import lstm
from tests.support import references
from tests.support.comparisons import assert_close, to_numpy
from tests.support.inputs import INPUT, draw, draw_all

pytestmark = pytest.mark.usefixtures("x64", "quick")
both_ways = pytest.mark.parametrize("reverse", [False, True], ids=["forward", "reverse"])
LENGTHS = np.array([5, 0, 3])
TIME, BATCH = 5, 3

EXAMPLE = jaxrnn.Stack(jaxrnn.LSTM(4), jaxrnn.GRU(3))


@both_ways
def test_stack(reverse):
    layer = Stack(LSTM(4), GRU(2))
    params, (p_lstm, p_gru), xs, state = draw_all(layer, TIME, BATCH)
    resets = draw(TIME, BATCH) > 0.5
    last, ys = unroll(layer, params, xs, state, lengths=LENGTHS, resets=resets, reverse=reverse)
    how = {"lengths": LENGTHS, "resets": resets, "reverse": reverse}
    s_lstm, hidden = references.run(lstm(4), p_lstm, xs, to_numpy(tuple(state[0])), **how)
    s_gru, expected = references.run(gru(2), p_gru, hidden, to_numpy(tuple(state[1])), **how)
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


def test_gradient_of_a_deep_layer_equals_complex_differences():
    layer = Stack(Bidirectional(GRU(2), backward=Elman(2), merge=operator.add), Residual(Elman(2)))
    params, _, xs, _ = draw_all(layer, TIME, BATCH, 2)
    leaves, tree = jax.tree.flatten((params, xs))

    def expected(leaves):
        (both, residual), xs = jax.tree.unflatten(tree, leaves)
        _, forward = references.run(gru(2), both.forward, xs, lengths=LENGTHS)
        _, backward = references.run(elman(2), both.backward, xs, lengths=LENGTHS, reverse=True)
        _, ys = references.run(elman(2), residual, forward + backward, lengths=LENGTHS)
        valid = (np.arange(TIME)[:, None] < LENGTHS)[..., None]
        return ((valid * (forward + backward) + ys) ** 3).sum()

    def loss(leaves):
        params, xs = jax.tree.unflatten(tree, leaves)
        return (unroll(layer, params, xs, lengths=LENGTHS)[1] ** 3).sum()

    assert_close(jax.grad(loss)(leaves), references.gradient(expected, to_numpy(leaves)), rtol=1e-11)


def test_the_state_of_one_layer():
    lstm, dense = LSTM(4), Dense(3)
    layer = Stack(Embedding(2), lstm, dense, GRU(4), GRU(4))
    params, _, _, _ = draw_all(layer, TIME, BATCH)
    state = layer.initial_state(params, (BATCH,))
    new = jax.tree.map(lambda leaf: leaf + 1, state)
    for which in (lstm, 1, -4):
        assert layer.state_of(new, which) is new[1]
        assert layer.replace_state(state, {which: new[1]}) == (state[0], new[1], *state[2:])
    replaced = layer.replace_state(state, {lstm: new[1], 4: new[4]})
    assert (replaced[1], replaced[3], replaced[4]) == (new[1], state[3], new[4])


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
