"""ParaLSTM: its equations in NumPy and its own tests."""

import numpy as np

import jaxrnn
from tests.support.references import Case, Reference, parts, sigmoid, zero_state


def para_lstm(hidden):
    """Danieli et al. 2025: the coupled LSTM with peepholes and diagonal matrices A and C."""

    def step(params, state, x):
        h, c = state
        a_f, a_z, a_o = (np.diag(row) for row in params.w_h)
        c_f, c_o = (np.diag(row) for row in params.w_c)
        w_f, w_z, w_o = parts(params.w_x, 3)
        b_f, b_z, b_o = parts(params.b, 3)
        f = sigmoid(a_f @ h + w_f @ x + c_f @ c + b_f)
        z = np.tanh(a_z @ h + w_z @ x + b_z)
        c = f * c + (1 - f) * z
        o = sigmoid(a_o @ h + w_o @ x + c_o @ c + b_o)
        h = o * np.tanh(c)
        return (h, c), h

    return Reference(step, zero_state(hidden, hidden))


CASE = Case(jaxrnn.ParaLSTM(4), para_lstm(4))
