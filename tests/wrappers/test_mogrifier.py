"""Mogrifier: its equations in NumPy and its own tests."""

import jax
import jax.numpy as jnp
import pytest

import jaxrnn
from jaxrnn import LSTM, Mogrifier, unroll
from jaxrnn.wrappers._hidden import get_hidden
from tests.cells.test_gru import gru
from tests.support.comparisons import assert_close
from tests.support.inputs import INPUT, draw, draw_params
from tests.support.loops import BATCH, TIME
from tests.support.references import Case, Reference, sigmoid

pytestmark = pytest.mark.usefixtures("x64", "quick")


def value_and_gradient(cell, params, xs, **how):
    def loss(args):
        last, ys = unroll(cell, args[0], args[1], **how)
        return (jnp.cos(jnp.arange(ys.size)).reshape(ys.shape) * ys).sum() + (get_hidden(last) ** 3).sum(), (last, ys)

    return jax.jit(jax.value_and_grad(loss, has_aux=True))((params, xs))


def mogrifier(reference, rounds):
    """Melis et al. 2020, eqs. 1 and 2, of any cell whose first state is h."""

    def step(params, state, x):
        h, *others = state
        for k in range(1, rounds + 1):
            gate = h if k % 2 else x
            for factor in params.q[(k - 1) // 2] if k % 2 else params.r[k // 2 - 1]:
                gate = factor.T @ gate
            if k % 2:
                x = 2 * sigmoid(gate) * x
            else:
                h = 2 * sigmoid(gate) * h
        return reference.step(params.cell, (h, *others), x)

    return Reference(step, lambda params: reference.initial(params.cell))


CASE = Case(jaxrnn.Mogrifier(jaxrnn.GRU(4), rounds=3, rank=2), mogrifier(gru(4), 3))


@pytest.mark.parametrize("rank", [None, 2])
def test_mogrifier_of_an_lstm_is_mogrifier_lstm(rank):
    cell, xs = Mogrifier(LSTM(4), rounds=4, rank=rank), draw(TIME, BATCH, INPUT)
    params = draw_params(cell)

    def flattened(params):
        return jaxrnn.cells.MogrifierLSTMParams(*params.cell, params.q, params.r)

    _, grads = one = value_and_gradient(cell, params, xs)
    _, expected = other = value_and_gradient(jaxrnn.MogrifierLSTM(4, rounds=4, rank=rank), flattened(params), xs)
    assert_close(one[0], other[0])
    assert_close((flattened(grads[0]), grads[1]), expected, rtol=1e-9)
    drawn, of_the_cell = cell.init(jax.random.key(0), INPUT), jaxrnn.MogrifierLSTM(4, rounds=4, rank=rank).init
    assert jax.tree.map(jnp.shape, flattened(drawn)) == jax.tree.map(jnp.shape, of_the_cell(jax.random.key(0), INPUT))
