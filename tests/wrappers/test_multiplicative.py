"""Multiplicative: its equations in NumPy and its own tests."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import pytest

import jaxrnn
from jaxrnn import GRU, LSTM, Multiplicative, unroll
from jaxrnn.ops import sigmoid, tanh
from jaxrnn.wrappers._hidden import get_hidden
from tests.cells.test_lstm import lstm
from tests.support.comparisons import assert_close
from tests.support.inputs import INPUT, draw, draw_params, draw_state
from tests.support.loops import BATCH, TIME
from tests.support.references import Case, Reference

pytestmark = pytest.mark.usefixtures("x64", "quick")


def value_and_gradient(cell, params, xs, **how):
    def loss(args):
        last, ys = unroll(cell, args[0], args[1], **how)
        return (jnp.cos(jnp.arange(ys.size)).reshape(ys.shape) * ys).sum() + (get_hidden(last) ** 3).sum(), (last, ys)

    return jax.jit(jax.value_and_grad(loss, has_aux=True))((params, xs))


def multiplicative(reference):
    """Krause et al. 2016, of any cell whose first state is h."""

    def step(params, state, x):
        h, *others = state
        m = (params.w_x.T @ x) * (params.w_h.T @ h)
        return reference.step(params.cell, (m, *others), x)

    return Reference(step, lambda params: reference.initial(params.cell))


@dataclass(frozen=True)
class KrauseLSTM(LSTM):
    """The LSTM of Krause et al. 2016: the candidate is not squashed, and the output gate is inside the tanh."""

    def step(self, params, state, z):
        i, f, g, o = jnp.split(z + state.h @ params.w_h, 4, axis=-1)
        c = sigmoid(f) * state.c + sigmoid(i) * g
        return jaxrnn.cells.LSTMState(h=tanh(sigmoid(o) * c), c=c)


CASE = Case(jaxrnn.Multiplicative(jaxrnn.LSTM(4)), multiplicative(lstm(4)))


def test_multiplicative_of_the_papers_lstm_is_multiplicative_lstm():
    cell, xs = Multiplicative(KrauseLSTM(4)), draw(TIME, BATCH, INPUT)
    params = draw_params(cell)

    def of_the_paper(params):
        (w_x, w_m, b), w_xm, w_h = params
        return jaxrnn.cells.MultiplicativeLSTMParams(jnp.concatenate([w_xm, w_x], axis=1), w_h, w_m, b)

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
