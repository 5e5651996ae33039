"""Jordan: its equations in NumPy and its own tests."""

import numpy as np

import jaxrnn
from tests.support.references import Case, of_state


def jordan(decay):
    @of_state(2, 2)
    def reference(params, y, s, x):
        """Jordan 1986: state units with a connection to themselves, of weight mu."""
        s = decay * s + y
        h = np.tanh(params.w_x.T @ x + params.w_s.T @ s + params.b)
        return np.tanh(params.w_h.T @ h + params.b_y), s

    return reference


CASE = Case(jaxrnn.Jordan(4, 2, decay_rate=0.3), jordan(0.3))
