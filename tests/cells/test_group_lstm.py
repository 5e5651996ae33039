"""GroupLSTM: its equations in NumPy and its own tests."""

import numpy as np

import jaxrnn
from tests.support.references import Case, Reference, parts, sigmoid, zero_state


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


CASE = Case(jaxrnn.GroupLSTM(6, 3), group_lstm(6, 3))
