"""MemoryControllerLSTM: its equations in NumPy and its own tests."""

import numpy as np

import jaxrnn
from tests.support.references import Case, Reference, parts, sigmoid, zero_state


def memory_controller_lstm(hidden):
    """MC-LSTM 2017: one output gate for the outside, one for the controller."""

    def step(params, state, x):
        _, v, c = state
        w_i, w_f, w_n, w_o, w_m = parts(params.w_x, 5)
        r_i, r_f, r_n, r_o, r_m = parts(params.w_v, 5)
        b_i, b_f, b_n, b_o, b_m = parts(params.b, 5)
        c = sigmoid(w_f @ x + r_f @ v + b_f) * c + sigmoid(w_i @ x + r_i @ v + b_i) * np.tanh(w_n @ x + r_n @ v + b_n)
        h = sigmoid(w_o @ x + r_o @ v + b_o) * np.tanh(c)
        v = sigmoid(w_m @ x + r_m @ v + b_m) * np.tanh(c)
        return (h, v, c), h

    return Reference(step, zero_state(hidden, hidden, hidden))


CASE = Case(jaxrnn.MemoryControllerLSTM(4), memory_controller_lstm(4))
