"""ProjectedLSTM: its equations in NumPy and its own tests."""

import numpy as np

import jaxrnn
from tests.support.references import Case, Reference, parts, sigmoid, zero_state


def projected_lstm(hidden, projection):
    """Sak et al. 2014, with neither peepholes nor the non-recurrent projection."""

    def step(params, state, x):
        r, c = state
        w_i, w_f, w_g, w_o = parts(params.w_x, 4)
        r_i, r_f, r_g, r_o = parts(params.w_h, 4)
        b_i, b_f, b_g, b_o = parts(params.b, 4)
        input_gate = sigmoid(w_i @ x + r_i @ r + b_i)
        forget_gate = sigmoid(w_f @ x + r_f @ r + b_f)
        candidate = np.tanh(w_g @ x + r_g @ r + b_g)
        output_gate = sigmoid(w_o @ x + r_o @ r + b_o)
        c = forget_gate * c + input_gate * candidate
        r = params.w_p.T @ (output_gate * np.tanh(c))
        return (r, c), r

    return Reference(step, zero_state(projection, hidden))


CASE = Case(jaxrnn.ProjectedLSTM(4, 2), projected_lstm(4, 2))
