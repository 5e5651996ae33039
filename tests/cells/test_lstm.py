"""LSTM: its equations in NumPy and its own tests."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxrnn
from jaxrnn import LSTM
from tests.support.inputs import INPUT, draw, draw_params
from tests.support.references import Case, Reference, parts, sigmoid, zero_state

pytestmark = pytest.mark.usefixtures("x64", "quick")
TIME, BATCH = 5, 2


def lstm(hidden, phi=np.tanh, sigma=sigmoid):
    """Hochreiter & Schmidhuber 1997 with the forget gate of Gers et al. 2000."""

    def step(params, state, x):
        h, c = state
        w_i, w_f, w_g, w_o = parts(params.w_x, 4)
        r_i, r_f, r_g, r_o = parts(params.w_h, 4)
        b_i, b_f, b_g, b_o = parts(params.b, 4)
        input_gate = sigma(w_i @ x + r_i @ h + b_i)
        forget_gate = sigma(w_f @ x + r_f @ h + b_f)
        candidate = phi(w_g @ x + r_g @ h + b_g)
        output_gate = sigma(w_o @ x + r_o @ h + b_o)
        c = forget_gate * c + input_gate * candidate
        h = output_gate * phi(c)
        return (h, c), h

    return Reference(step, zero_state(hidden, hidden))


CASE = Case(
    jaxrnn.LSTM(4),
    lstm(4),
    variants={
        "other activations": Case(jaxrnn.LSTM(4, activation=jnp.sin, gate_activation=jnp.cos), lstm(4, np.sin, np.cos)),
    },
)


def test_forget_bias_is_not_added_at_run_time():
    params, xs = draw_params(LSTM(4)), draw(TIME, INPUT)
    one = jaxrnn.unroll(LSTM(4, forget_bias=0.0), params, xs)
    other = jaxrnn.unroll(LSTM(4, forget_bias=9.0), params, xs)
    jax.tree.map(np.testing.assert_array_equal, one, other)


def test_activations_are_shown_where_they_are_not_the_usual_ones():
    assert str(LSTM(4)) == "LSTM(hidden_size=4, forget_bias=1.0)"
    other = LSTM(4, gate_activation=jax.nn.hard_sigmoid)
    assert str(other) == "LSTM(hidden_size=4, forget_bias=1.0, gate_activation=hard_sigmoid)"
    assert other != LSTM(4)

    class Plain(jaxrnn.Layer):  # not a dataclass
        init = initial_state = run = None

        def __init__(self, size):
            self.size = size

    assert str(Plain(4)) == "Plain(size=4)"
