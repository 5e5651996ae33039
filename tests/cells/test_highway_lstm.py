"""HighwayLSTM: its equations in NumPy and its own tests."""

import numpy as np

import jaxrnn
from tests.support.references import Case, Reference, parts, sigmoid, zero_state


def highway_lstm(hidden):
    """He et al. 2017, eqs. of the highway connections: r = 1 is the LSTM's output, r = 0 the input's."""

    def step(params, state, x):
        h, c = state
        w_i, w_f, w_g, w_o, w_r, w_h = parts(params.w_x, 6)
        r_i, r_f, r_g, r_o, r_r = parts(params.w_h, 5)
        b_i, b_f, b_g, b_o, b_r = parts(params.b, 5)
        input_gate = sigmoid(w_i @ x + r_i @ h + b_i)
        forget_gate = sigmoid(w_f @ x + r_f @ h + b_f)
        candidate = np.tanh(w_g @ x + r_g @ h + b_g)
        output_gate = sigmoid(w_o @ x + r_o @ h + b_o)
        transform_gate = sigmoid(w_r @ x + r_r @ h + b_r)
        c = forget_gate * c + input_gate * candidate
        h = transform_gate * (output_gate * np.tanh(c)) + (1 - transform_gate) * (w_h @ x)
        return (h, c), h

    return Reference(step, zero_state(hidden, hidden))


CASE = Case(jaxrnn.HighwayLSTM(4), highway_lstm(4))
