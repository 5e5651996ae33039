"""WMCLSTM: its equations in NumPy and its own tests."""

import numpy as np

import jaxrnn
from tests.support.references import Case, Reference, parts, sigmoid, zero_state


def wmc_lstm(hidden):
    """Landi et al. 2021: the squashed memory in each gate, the new one in the output gate's."""

    def step(params, state, x):
        h, c = state
        w_i, w_f, w_g, w_o = parts(params.w_x, 4)
        r_i, r_f, r_g, r_o = parts(params.w_h, 4)
        b_i, b_f, b_g, b_o = parts(params.b, 4)
        v_i, v_f = parts(params.w_c, 2)
        input_gate = sigmoid(w_i @ x + r_i @ h + np.tanh(v_i @ c) + b_i)
        forget_gate = sigmoid(w_f @ x + r_f @ h + np.tanh(v_f @ c) + b_f)
        candidate = np.tanh(w_g @ x + r_g @ h + b_g)
        c = forget_gate * c + input_gate * candidate
        output_gate = sigmoid(w_o @ x + r_o @ h + np.tanh(params.w_o.T @ c) + b_o)
        h = output_gate * np.tanh(c)
        return (h, c), h

    return Reference(step, zero_state(hidden, hidden))


CASE = Case(jaxrnn.WMCLSTM(4), wmc_lstm(4))
