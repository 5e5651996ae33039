"""ResidualLSTM: its equations in NumPy and its own tests."""

import numpy as np

import jaxrnn
from tests.support.references import Case, Reference, parts, sigmoid, zero_state


def residual_lstm(hidden):
    """Kim et al. 2017: peepholes, projection and shortcut, both under the output gate."""

    def step(params, state, x):
        h, c = state
        w_i, w_f, w_g, w_o, w_s = parts(params.w_x, 5)
        r_i, r_f, r_g, r_o = parts(params.w_h, 4)
        b_i, b_f, b_g, b_o = parts(params.b, 4)
        p_i, p_f, p_o = (np.diag(row) for row in params.w_c)
        input_gate = sigmoid(w_i @ x + r_i @ h + p_i @ c + b_i)
        forget_gate = sigmoid(w_f @ x + r_f @ h + p_f @ c + b_f)
        candidate = np.tanh(w_g @ x + r_g @ h + b_g)
        c = forget_gate * c + input_gate * candidate
        output_gate = sigmoid(w_o @ x + r_o @ h + p_o @ c + b_o)
        projected = params.w_p.T @ np.tanh(c)
        h = output_gate * (projected + w_s @ x)
        return (h, c), h

    return Reference(step, zero_state(hidden, hidden))


CASE = Case(jaxrnn.ResidualLSTM(4), residual_lstm(4))
