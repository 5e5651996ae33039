"""GroupLSTM: its equations in NumPy and its own tests."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxrnn
from jaxrnn import unroll
from tests.support.comparisons import assert_close, outputs_and_input_gradients
from tests.support.inputs import draw, draw_params, draw_state
from tests.support.references import Case, Reference, parts, sigmoid, zero_state

pytestmark = pytest.mark.usefixtures("x64", "quick")
TIME, BATCH = 4, 2


def group_lstm(hidden, groups):
    """Kuchaiev & Ginsburg 2017: an LSTM for each part of x, h and c."""

    def step(params, state, x):
        new_h, new_c = [], []
        for k, (x_k, h_k, c_k) in enumerate(zip(*(np.split(leaf, groups) for leaf in (x, *state)), strict=True)):
            w_i, w_f, w_g, w_o = parts(params.w_x[k], 4)
            r_i, r_f, r_g, r_o = parts(params.w_h[k], 4)
            b_i, b_f, b_g, b_o = parts(params.b[k], 4)
            input_gate = sigmoid(w_i @ x_k + r_i @ h_k + b_i)
            forget_gate = sigmoid(w_f @ x_k + r_f @ h_k + b_f)
            candidate = np.tanh(w_g @ x_k + r_g @ h_k + b_g)
            output_gate = sigmoid(w_o @ x_k + r_o @ h_k + b_o)
            new_c.append(forget_gate * c_k + input_gate * candidate)
            new_h.append(output_gate * np.tanh(new_c[-1]))
        h, c = np.concatenate(new_h), np.concatenate(new_c)
        return (h, c), h

    return Reference(step, zero_state(hidden, hidden))


CASE = Case(jaxrnn.GroupLSTM(6, num_groups=3), group_lstm(6, 3))


def test_a_group_is_an_lstm_of_its_part():
    cell = jaxrnn.GroupLSTM(8, num_groups=2)
    params, xs = draw_params(cell, input_size=6), draw(TIME, BATCH, 6)
    state = draw_state(cell, params, (BATCH,))
    (_, whole), gradient = outputs_and_input_gradients(cell, params, xs, state)
    for k in range(2):
        of_k = jaxrnn.cells.LSTMState(*(jnp.split(leaf, 2, axis=-1)[k] for leaf in state))
        part = outputs_and_input_gradients(
            jaxrnn.LSTM(4), jaxrnn.cells.LSTMParams(*(leaf[k] for leaf in params)), xs[..., 3 * k : 3 * k + 3], of_k
        )
        parts_of_whole = [leaf[..., 4 * k : 4 * k + 4] for leaf in whole], gradient[..., 3 * k : 3 * k + 3]
        assert_close((part[0][1], part[1]), parts_of_whole)


def test_symbols_of_groups_equal_their_one_hot_vectors():
    cell, symbols = jaxrnn.GroupLSTM(4, num_groups=2), np.array([[0, 5], [3, 2], [1, 1]])
    params = draw_params(cell, input_size=6)
    assert_close(unroll(cell, params, symbols), unroll(cell, params, np.eye(6)[symbols]))


def test_an_input_of_another_size_than_that_of_the_groups():
    cell = jaxrnn.GroupLSTM(4, num_groups=2)
    with pytest.raises(
        ValueError, match=r"the input size of the parameters, 6, but .* \(4,\): call init with the size"
    ):
        unroll(cell, cell.init(jax.random.key(0), 6), np.zeros((3, 2, 4)))
