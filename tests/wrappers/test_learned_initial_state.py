"""LearnedInitialState: its equations in NumPy and its own tests."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxrnn
from jaxrnn import GRU, LSTM, LearnedInitialState, unroll
from tests.cells.test_gru import gru
from tests.cells.test_lstm import lstm
from tests.support import references
from tests.support.comparisons import assert_close, to_numpy
from tests.support.inputs import INPUT, draw, draw_params, draw_state
from tests.support.references import Case

pytestmark = pytest.mark.usefixtures("x64", "quick")
TIME, BATCH = 6, 2


def key(seed=0):
    return jax.random.key(seed)


def learned_initial_state(reference):
    return reference._replace(
        step=lambda params, state, x: reference.step(params.cell, state, x), initial=lambda params: tuple(params.state)
    )


CASE = Case(jaxrnn.LearnedInitialState(jaxrnn.LSTM(4)), learned_initial_state(lstm(4)))


def test_learned_initial_state_begins_at_zero_and_is_used():
    cell = LearnedInitialState(LSTM(4))
    params = cell.init(key(), INPUT)
    assert not any(leaf.any() for leaf in params.state)
    params = params._replace(state=jaxrnn.cells.LSTMState(jnp.arange(4.0), -jnp.arange(4.0)))
    h, c = cell.initial_state(params, (2, 3))
    np.testing.assert_array_equal(h, np.broadcast_to(np.arange(4.0), (2, 3, 4)))
    np.testing.assert_array_equal(c, -h)
    assert {leaf.dtype for leaf in cell.initial_state(params, (), "float16")} == {np.dtype("float16")}
    xs = draw(TIME, BATCH, INPUT)
    begin = jaxrnn.cells.LSTMState(h[0, :BATCH], c[0, :BATCH])
    assert_close(unroll(cell, params, xs), unroll(LSTM(4), params.cell, xs, begin))


def test_gradient_of_the_learned_initial_state():
    """Without a state given, and through resets when one is."""
    cell, reference = LearnedInitialState(GRU(3)), learned_initial_state(gru(3))
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
