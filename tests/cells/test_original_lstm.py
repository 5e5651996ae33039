"""OriginalLSTM: its equations in NumPy and its own tests."""

import numpy as np

import jaxrnn
from tests.support.references import Case, Reference, parts, sigmoid, zero_state


def original_lstm(hidden):
    """Hochreiter & Schmidhuber 1997: the memory is a sum."""

    def step(params, state, x):
        h, c = state
        w_i, w_g, w_o = parts(params.w_x, 3)
        r_i, r_g, r_o = parts(params.w_h, 3)
        b_i, b_g, b_o = parts(params.b, 3)
        input_gate = sigmoid(w_i @ x + r_i @ h + b_i)
        candidate = np.tanh(w_g @ x + r_g @ h + b_g)
        output_gate = sigmoid(w_o @ x + r_o @ h + b_o)
        c = c + input_gate * candidate
        h = output_gate * np.tanh(c)
        return (h, c), h

    return Reference(step, zero_state(hidden, hidden))


CASE = Case(jaxrnn.OriginalLSTM(4), original_lstm(4))
