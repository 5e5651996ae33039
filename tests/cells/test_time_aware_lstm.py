"""TimeAwareLSTM: its equations in NumPy and its own tests."""

import numpy as np

import jaxrnn
from tests.support.references import Case, Reference, parts, sigmoid, zero_state


def time_aware_lstm(hidden):
    """Baytas et al. 2017: the memory is decomposed and its short-term part discounted."""

    def step(params, state, x):
        h, c = state
        x, gap = x[:-1], x[-1]
        w_i, w_f, w_g, w_o = parts(params.w_x, 4)
        r_i, r_f, r_g, r_o = parts(params.w_h, 4)
        b_i, b_f, b_g, b_o = parts(params.b, 4)
        short = np.tanh(params.w_s.T @ c + params.b_s)
        long = c - short
        adjusted = long + short / np.log(np.e + gap)
        input_gate = sigmoid(w_i @ x + r_i @ h + b_i)
        forget_gate = sigmoid(w_f @ x + r_f @ h + b_f)
        c = forget_gate * adjusted + input_gate * np.tanh(w_g @ x + r_g @ h + b_g)
        h = sigmoid(w_o @ x + r_o @ h + b_o) * np.tanh(c)
        return (h, c), h

    return Reference(step, zero_state(hidden, hidden))


CASE = Case(jaxrnn.TimeAwareLSTM(4), time_aware_lstm(4), reads_symbols=False)
