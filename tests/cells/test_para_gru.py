"""ParaGRU: its equations in NumPy and its own tests."""

import numpy as np

import jaxrnn
from tests.support.references import Case, Reference, parts, sigmoid, zero_state


def para_gru(hidden):
    """Danieli et al. 2025: the GRU with diagonal matrices A."""

    def step(params, state, x):
        (h,) = state
        a_z, a_r, a_c = (np.diag(row) for row in params.w_h)
        w_z, w_r, w_c = parts(params.w_x, 3)
        b_z, b_r, b_c = parts(params.b, 3)
        z = sigmoid(a_z @ h + w_z @ x + b_z)
        r = sigmoid(a_r @ h + w_r @ x + b_r)
        c = np.tanh(a_c @ (h * r) + w_c @ x + b_c)
        h = (1 - z) * h + z * c
        return (h,), h

    return Reference(step, zero_state(hidden))


CASE = Case(jaxrnn.ParaGRU(4), para_gru(4))
