"""MultiplicativeLSTM: its equations in NumPy and its own tests."""

import numpy as np

import jaxrnn
from tests.support.references import Case, Reference, parts, sigmoid, zero_state


def multiplicative_lstm(hidden):
    """Krause et al. 2016: the LSTM of the paper, reading m in place of the state."""

    def step(params, state, x):
        h, c = state
        w_m, w_i, w_f, w_g, w_o = parts(params.w_x, 5)
        m_i, m_f, m_g, m_o = parts(params.w_m, 4)
        b_i, b_f, b_g, b_o = parts(params.b, 4)
        m = (w_m @ x) * (params.w_h.T @ h)
        input_gate = sigmoid(w_i @ x + m_i @ m + b_i)
        forget_gate = sigmoid(w_f @ x + m_f @ m + b_f)
        candidate = w_g @ x + m_g @ m + b_g
        output_gate = sigmoid(w_o @ x + m_o @ m + b_o)
        c = forget_gate * c + input_gate * candidate
        h = np.tanh(c * output_gate)
        return (h, c), h

    return Reference(step, zero_state(hidden, hidden))


CASE = Case(jaxrnn.MultiplicativeLSTM(4), multiplicative_lstm(4))
