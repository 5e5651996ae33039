"""`states_over_time`, against single steps and against `unroll` of the parts of a sequence."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxrnn
from jaxrnn import GRU, LSTM, Bidirectional, Dense, Elman, Reversed, Sliced, Stack, Using, Window, loops
from jaxrnn import states_over_time as states_of
from tests.support.cases import LINEAR_LOOPS, LOOPS, cases, cell_cases, examples
from tests.support.comparisons import assert_close
from tests.support.inputs import INPUT, draw, draw_inputs, draw_params, draw_state
from tests.support.tiers import REPRESENTATIVES, slow_but

pytestmark = pytest.mark.usefixtures("x64", "quick")
TIME, BATCH = 5, 3
LENGTHS = np.array([5, 0, 3])
ALL = {name: case.cell for name, case in cases().items()} | examples()
CAUSAL = sorted(name for name, layer in ALL.items() if layer.causal)
IN_DEFAULT_TIER = (*REPRESENTATIVES, "FastSlow", "Stack", "Window", "Residual", "Highway", "DenselyConnected", "Using")

run = jax.jit(states_of, static_argnums=0, static_argnames=("reverse", "loop"))
unroll = jax.jit(jaxrnn.unroll, static_argnums=0, static_argnames=("reverse", "loop"))
take_step = jax.jit(jaxrnn.step, static_argnums=0)
both_ways = pytest.mark.parametrize("reverse", [False, True], ids=["forward", "reverse"])


def inputs_of(name):
    size = cases()[name].reference.input_size if name in cases() else INPUT
    return size, draw_inputs(size, TIME, BATCH)


def step_by_step(layer, params, xs, state, lengths, resets, reverse):
    """The states after all steps, one call of `step` for each."""
    initial = layer.initial_state(params, (BATCH,))
    states = [None] * TIME
    if reverse:  # a sequence that begins at t + 1 ends another one, whose last step, t, is read first
        begins = resets & (np.arange(TIME)[:, None] < np.asarray(lengths))
        resets = np.concatenate([begins[1:], np.zeros_like(begins[:1])])
    for t in reversed(range(TIME)) if reverse else range(TIME):
        before = jaxrnn.ops.where(jnp.asarray(~resets[t]), state, initial)
        after, _ = take_step(layer, params, before, xs[t])
        state = jaxrnn.ops.where(t < jnp.asarray(lengths), after, state)
        states[t] = state
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *states)


# All cells run in reverse alike, but wrappers and layers do not.
FORWARD = [(name, False) for name in CAUSAL]
REVERSE = [(name, True) for name in CAUSAL if name not in cell_cases() or name in IN_DEFAULT_TIER]


@pytest.mark.parametrize(("name", "reverse"), slow_but(FORWARD + REVERSE, [(name, False) for name in IN_DEFAULT_TIER]))
def test_states_equal_those_of_single_steps(name, reverse):
    layer = ALL[name]
    size, xs = inputs_of(name)
    params = draw_params(layer, input_size=size)
    state = layer.initial_state(params, (BATCH,))
    resets = draw(TIME, BATCH) > 0.5
    how = {"lengths": LENGTHS, "resets": resets, "reverse": reverse}
    states, ys = run(layer, params, xs, state, **how)
    assert_close(states, step_by_step(layer, params, xs, state, **how), rtol=1e-11)
    last, expected = unroll(layer, params, xs, state, **how)
    assert_close(ys, expected)
    assert_close(jax.tree.map(lambda leaf: leaf[0 if reverse else -1], states), last)
    assert jax.tree.structure(states) == jax.tree.structure(state)
    assert [leaf.dtype for leaf in jax.tree.leaves(states)] == [leaf.dtype for leaf in jax.tree.leaves(last)]


@both_ways
def test_nested_layers_in_both_directions(reverse):
    inner = Bidirectional(LSTM(2), backward=Stack(Window(2), GRU(3)))
    layer = Stack(Elman(3), Reversed(inner), Using(LSTM(2), loops.Scan()), Dense(2))
    params, xs = draw_params(layer), draw(TIME, BATCH, INPUT)
    states, ys = run(layer, params, xs, lengths=LENGTHS, reverse=reverse)
    how = {"lengths": LENGTHS, "resets": np.zeros((TIME, BATCH), bool)}

    def expected(layer, params, xs, reverse):
        initial = layer.initial_state(params, (BATCH,))
        states = step_by_step(layer, params, xs, initial, reverse=reverse, **how)
        return states, unroll(layer, params, xs, lengths=LENGTHS, reverse=reverse)[1]

    elman, hidden = expected(layer.layers[0], params[0], xs, reverse)
    forward, ys_forward = expected(inner.forward, params[1].forward, hidden, not reverse)
    backward, ys_backward = expected(inner.backward, params[1].backward, hidden, reverse)
    lstm, ys_lstm = expected(LSTM(2), params[2], jnp.concatenate([ys_forward, ys_backward], -1), reverse)
    assert_close(states, (elman, (forward, backward), lstm, ()), rtol=1e-11)
    assert states[1].backward[0].past.shape == (TIME, BATCH, 1, 3)
    valid = np.arange(TIME)[:, None] < LENGTHS
    assert_close(ys, valid[..., None] * (ys_lstm @ params[3].w + params[3].b))


@pytest.mark.parametrize("lengths", [None, np.array([7, 0, 3])], ids=["full", "lengths"])
@both_ways
def test_sliced(lengths, reverse):
    """The states are those of the last level, each repeated at the steps of its slice, as outputs are."""
    time = 7 if lengths is not None else 6
    layer = Sliced(LSTM(2), slices=3)  # its outputs are its states
    params, xs = draw_params(layer), draw(time, BATCH, INPUT)
    state = draw_state(layer, params, (BATCH,))
    states, ys = run(layer, params, xs, state, lengths=lengths, reverse=reverse)
    assert_close(ys, unroll(layer, params, xs, state, lengths=lengths, reverse=reverse)[1])
    last, _ = unroll(layer, params, xs, state, lengths=lengths, reverse=reverse)
    for n, length in enumerate([time] * BATCH if lengths is None else lengths):
        assert_close(states.h[:length, n], ys[:length, n])
        waits = jax.tree.map(lambda leaf, n=n: leaf[n], state if reverse else last)
        for t in range(length, time):
            assert_close(jax.tree.map(lambda leaf, t=t, n=n: leaf[t, n], states), waits)
    assert_close(jax.tree.map(lambda leaf: leaf[0 if reverse else -1], states), last)


LOOPS_AND_CELLS = [(name, "LSTM") for name in LOOPS] + [(name, "MinGRU") for name in LINEAR_LOOPS]


@pytest.mark.parametrize(("loop", "name"), LOOPS_AND_CELLS)
def test_every_loop_returns_the_same_states_and_gradients(loop, name):
    layer, loop = ALL[name], (LOOPS | LINEAR_LOOPS)[loop]
    params, xs = draw_params(layer), draw(TIME, BATCH, INPUT)
    state = draw_state(layer, params, (BATCH,))
    weights = jax.tree.map(lambda leaf: draw(TIME, *leaf.shape, seed=1), state)

    @partial(jax.jit, static_argnums=0)
    def gradient(loop, *args):
        def loss(params, xs, state):
            states, ys = states_of(layer, params, xs, state, lengths=LENGTHS, loop=loop)
            products = jax.tree.map(lambda w, s: (w * s**2).sum(), weights, states)
            return sum(jax.tree.leaves(products)) + (ys**3).sum(), states

        return jax.value_and_grad(loss, argnums=(0, 1, 2), has_aux=True)(*args)

    assert_close(gradient(loop, params, xs, state), gradient(loops.Scan(), params, xs, state))


def test_randomness_is_that_of_unroll():
    layer = Stack(jaxrnn.Dropout(0.5), jaxrnn.Zoneout(LSTM(3), rate=0.5), jaxrnn.RecurrentDropout(GRU(2), rate=0.5))
    params, xs, key = draw_params(layer), draw(TIME, BATCH, INPUT), jax.random.key(3)
    states, ys = run(layer, params, xs, key=key)
    last, expected = unroll(layer, params, xs, key=key)
    assert_close((jax.tree.map(lambda leaf: leaf[-1], states), ys), (last, expected))
    one, other = states[1].h[1:], states[1].h[:-1]
    assert 0.2 < (one == other).mean() < 0.8  # zoneout kept some units


@pytest.mark.parametrize("name", ["LSTM", "MinGRU", "Window", "Stack", "Bidirectional", "Sliced"])
def test_no_steps_and_no_batch(name):
    layer = ALL[name]
    params = draw_params(layer)
    for batch_shape in [(), (2, 3)]:
        state = layer.initial_state(params, batch_shape)
        states, ys = states_of(layer, params, np.zeros((0, *batch_shape, INPUT)))
        assert len(ys) == 0
        shapes = [leaf.shape for leaf in jax.tree.leaves(states)]
        assert shapes == [(0, *leaf.shape) for leaf in jax.tree.leaves(state)]
    assert jax.tree.leaves(states_of(layer, params, draw(2, INPUT))[0])[0].shape[0] == 2


def test_adopted_steps():
    def step(params, state, x):
        new = jnp.tanh(x @ params + state)
        return new, new - state  # an output that needs the state before the step, which is carried by the loop

    def first(params, batch_shape):
        return jnp.zeros((*batch_shape, 2))

    cell = jaxrnn.adopt(step, first, init=lambda key, size: jax.random.normal(key, (size, 2)))
    params, xs = cell.init(jax.random.key(0), INPUT), draw(TIME, BATCH, INPUT)
    states, ys = states_of(cell, params, xs)
    before = jnp.concatenate([jnp.zeros((1, BATCH, 2)), states[:-1]])
    assert_close(states, jnp.tanh(xs @ params + before))
    assert_close(ys, states - before)


def test_arguments_are_checked_as_by_unroll():
    with pytest.raises(TypeError, match=r"^layer must be a jaxrnn layer"):
        states_of("LSTM", (), draw(TIME, INPUT))
    cell = Elman(2)
    with pytest.raises(TypeError, match=r"^AssociativeScan runs cells .*, but Elman\("):
        states_of(cell, draw_params(cell), draw(TIME, INPUT), loop=loops.AssociativeScan())
