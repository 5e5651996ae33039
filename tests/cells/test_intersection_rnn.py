"""IntersectionRNN: its equations in NumPy and its own tests."""

import jax
import numpy as np
import pytest

import jaxrnn
from tests.support.comparisons import to_numpy
from tests.support.inputs import draw
from tests.support.references import Case, Reference, parts, relu, sigmoid, zero_state

pytestmark = pytest.mark.usefixtures("x64", "quick")
KEY = jax.random.key(0)


def intersection_rnn(hidden, inputs, phi=np.tanh):
    """Collins et al. 2017, the +RNN, with ReLU for the output."""

    def step(params, state, x):
        h, _ = state
        w_gh, w_hin = parts(params.w_x, 2)
        u_gh, u_hin = parts(params.w_h, 2)
        b_gh, b_hin = parts(params.b, 2)
        w_gy, w_yin = parts(params.w_xy, 2)
        u_gy, u_yin = parts(params.w_hy, 2)
        b_gy, b_yin = parts(params.b_y, 2)
        y_in = relu(u_yin @ h + w_yin @ x + b_yin)
        h_in = phi(u_hin @ h + w_hin @ x + b_hin)
        g_y = sigmoid(u_gy @ h + w_gy @ x + b_gy)
        g_h = sigmoid(u_gh @ h + w_gh @ x + b_gh)
        y = g_y * x + (1 - g_y) * y_in
        h = g_h * h + (1 - g_h) * h_in
        return (h, y), y

    return Reference(step, zero_state(hidden, inputs))


CASE = Case(
    jaxrnn.IntersectionRNN(4),
    intersection_rnn(4, 3),
    variants={
        "relu": Case(jaxrnn.IntersectionRNN(4, activation=jax.nn.relu), intersection_rnn(4, 3, relu)),
    },
)


def test_output_size_is_the_input_size():
    cell = jaxrnn.Stack(jaxrnn.IntersectionRNN(5), jaxrnn.IntersectionRNN(2))
    assert jaxrnn.unroll(cell, cell.init(KEY, 3), draw(4, 2, 3))[1].shape == (4, 2, 3)
    params = to_numpy(jaxrnn.IntersectionRNN(5, pass_bias=1.5).init(KEY, 2))
    np.testing.assert_array_equal(params.b_y, [1.5, 1.5, 0, 0])
