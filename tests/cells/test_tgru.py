"""TGRU: its equations in NumPy and its own tests."""

import numpy as np

import jaxrnn
from tests.support.references import Case, Reference, sigmoid, typed, zero_state


def tgru(hidden):
    """Balduzzi & Ghifary 2016, T-GRU."""

    def step(params, state, x):
        h, before = state
        z, f, o = typed(params, before, x)
        h = sigmoid(f) * h + z * np.tanh(o)
        return (h, params.v_x.T @ x), h

    return Reference(step, zero_state(hidden, 3 * hidden))


CASE = Case(jaxrnn.TGRU(4), tgru(4))
