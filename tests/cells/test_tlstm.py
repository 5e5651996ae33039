"""TLSTM: its equations in NumPy and its own tests."""

import numpy as np

import jaxrnn
from tests.support.references import Case, Reference, sigmoid, typed, zero_state


def tlstm(hidden):
    """Balduzzi & Ghifary 2016, T-LSTM."""

    def step(params, state, x):
        _, c, before = state
        z, f, o = typed(params, before, x)
        c = sigmoid(f) * c + sigmoid(-f) * z
        h = c * np.tanh(o)
        return (h, c, params.v_x.T @ x), h

    return Reference(step, zero_state(hidden, hidden, 3 * hidden))


CASE = Case(jaxrnn.TLSTM(4), tlstm(4))
