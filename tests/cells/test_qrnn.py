"""QRNN: its equations in NumPy and its own tests."""

import numpy as np

import jaxrnn
from tests.support.references import Case, Reference, parts, sigmoid, zero_state


def qrnn(hidden):
    """Bradbury et al. 2017, section 2: eq. 1 with filters one step wide, and fo-pooling, eq. 4."""

    def step(params, state, x):
        (c,) = state
        w_z, w_f, w_o = parts(params.w_x, 3)
        b_z, b_f, b_o = parts(params.b, 3)
        z, f, o = np.tanh(w_z @ x + b_z), sigmoid(w_f @ x + b_f), sigmoid(w_o @ x + b_o)
        c = f * c + (1 - f) * z
        return (c,), o * c

    return Reference(step, zero_state(hidden))


CASE = Case(jaxrnn.QRNN(4), qrnn(4))
