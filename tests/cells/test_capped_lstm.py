"""CappedLSTM: its equations in NumPy and its own tests."""

import jax
import numpy as np
import pytest

import jaxrnn
from tests.support.inputs import INPUT, draw, draw_params
from tests.support.references import Case, Reference, parts, sigmoid, zero_state

pytestmark = pytest.mark.usefixtures("x64", "quick")


def capped_lstm(hidden):
    """Melis et al. 2018: the input gate is at most 1 - f."""

    def step(params, state, x):
        h, c = state
        w_i, w_f, w_g, w_o = parts(params.w_x, 4)
        r_i, r_f, r_g, r_o = parts(params.w_h, 4)
        b_i, b_f, b_g, b_o = parts(params.b, 4)
        forget_gate = sigmoid(w_f @ x + r_f @ h + b_f)
        input_gate = sigmoid(w_i @ x + r_i @ h + b_i)
        candidate = np.tanh(w_g @ x + r_g @ h + b_g)
        output_gate = sigmoid(w_o @ x + r_o @ h + b_o)
        c = forget_gate * c + np.where(input_gate + forget_gate > 1, 1 - forget_gate, input_gate) * candidate
        h = output_gate * np.tanh(c)
        return (h, c), h

    return Reference(step, zero_state(hidden, hidden))


CASE = Case(jaxrnn.CappedLSTM(4), capped_lstm(4))


def test_memories_of_the_capped_lstm_stay_below_one():
    cell = jaxrnn.CappedLSTM(8)
    state, _ = jaxrnn.unroll(cell, jax.tree.map(lambda leaf: 9 * leaf, draw_params(cell)), draw(100, INPUT))
    assert 0.9 < np.abs(state.c).max() <= 1
