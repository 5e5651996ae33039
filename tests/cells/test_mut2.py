"""MUT2: its equations in NumPy and its own tests."""

import numpy as np

import jaxrnn
from tests.support.references import Case, of_hidden, parts, sigmoid


@of_hidden(3)
def mut2(params, h, x):
    """Jozefowicz et al. 2015: the bare input in r."""
    w_xz, w_xh = parts(params.w_x, 2)
    w_hz, w_hr = parts(params.w_h, 2)
    b_z, b_r, b_h = parts(params.b, 3)
    z = sigmoid(w_xz @ x + w_hz @ h + b_z)
    r = sigmoid(x + w_hr @ h + b_r)
    return np.tanh(params.w_a.T @ (r * h) + w_xh @ x + b_h) * z + h * (1 - z)


CASE = Case(jaxrnn.MUT2(3), mut2)
