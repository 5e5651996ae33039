"""MogrifierLSTM: its equations in NumPy and its own tests."""

import numpy as np

import jaxrnn
from tests.support.references import Case, Reference, parts, sigmoid, zero_state


def mogrifier_lstm(hidden, rounds):
    """Melis et al. 2020: x and h gate each other, x first, then an LSTM."""

    def product(factors, vector):
        whole = np.eye(len(vector))
        for factor in factors:
            whole = factor.T @ whole
        return whole @ vector

    def step(params, state, x):
        h, c = state
        for k in range(1, rounds + 1):
            if k % 2 == 1:
                x = 2 * sigmoid(product(params.q[(k - 1) // 2], h)) * x
            else:
                h = 2 * sigmoid(product(params.r[k // 2 - 1], x)) * h
        w_i, w_f, w_g, w_o = parts(params.w_x, 4)
        r_i, r_f, r_g, r_o = parts(params.w_h, 4)
        b_i, b_f, b_g, b_o = parts(params.b, 4)
        c_new = sigmoid(w_f @ x + r_f @ h + b_f) * c
        c_new = c_new + sigmoid(w_i @ x + r_i @ h + b_i) * np.tanh(w_g @ x + r_g @ h + b_g)
        h_new = sigmoid(w_o @ x + r_o @ h + b_o) * np.tanh(c_new)
        return (h_new, c_new), h_new

    return Reference(step, zero_state(hidden, hidden))


CASE = Case(
    jaxrnn.MogrifierLSTM(4, rank=2),
    mogrifier_lstm(4, 5),
    variants={
        "one round": Case(jaxrnn.MogrifierLSTM(4, rounds=1), mogrifier_lstm(4, 1)),
        "four rounds": Case(jaxrnn.MogrifierLSTM(4, rounds=4), mogrifier_lstm(4, 4)),
    },
)
