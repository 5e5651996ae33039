"""FactorizedLSTM: its equations in NumPy and its own tests."""

import numpy as np
import pytest

import jaxrnn
from tests.support.comparisons import assert_close, outputs_and_input_gradients
from tests.support.inputs import draw, draw_params, draw_state
from tests.support.references import Case, Reference, parts, sigmoid, zero_state

pytestmark = pytest.mark.usefixtures("x64", "quick")
TIME, BATCH = 4, 2


def factorized_lstm(hidden):
    """Kuchaiev & Ginsburg 2017: T = W2 W1 [x, h] + b."""

    def step(params, state, x):
        h, c = state
        w_1 = np.concatenate([params.w_x, params.w_h]).T
        b_i, b_f, b_g, b_o = parts(params.b, 4)
        u_i, u_f, u_g, u_o = (w_2 @ w_1 for w_2 in parts(params.w_u, 4))
        xh = np.concatenate([x, h])
        c = sigmoid(u_f @ xh + b_f) * c + sigmoid(u_i @ xh + b_i) * np.tanh(u_g @ xh + b_g)
        h = sigmoid(u_o @ xh + b_o) * np.tanh(c)
        return (h, c), h

    return Reference(step, zero_state(hidden, hidden))


CASE = Case(jaxrnn.FactorizedLSTM(4, 2), factorized_lstm(4))


def test_the_factors_are_those_of_an_lstms_matrix():
    cell = jaxrnn.FactorizedLSTM(4, 2)
    params, xs = draw_params(cell), draw(TIME, BATCH, 3)
    state = draw_state(cell, params, (BATCH,))
    product = jaxrnn.cells.LSTMParams(params.w_x @ params.w_u, params.w_h @ params.w_u, params.b)
    assert np.linalg.matrix_rank(np.concatenate(product[:2])) == 2
    assert_close(
        outputs_and_input_gradients(cell, params, xs, state),
        outputs_and_input_gradients(jaxrnn.LSTM(4), product, xs, jaxrnn.cells.LSTMState(*state)),
    )
