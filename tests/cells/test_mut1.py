"""MUT1: its equations in NumPy and its own tests."""

import numpy as np

import jaxrnn
from tests.support.references import Case, of_hidden, parts, sigmoid


@of_hidden(3)
def mut1(params, h, x):
    """Jozefowicz et al. 2015: z of the input alone, tanh of the bare input in the candidate."""
    w_xz, w_xr = parts(params.w_x, 2)
    b_z, b_r, b_h = parts(params.b, 3)
    z = sigmoid(w_xz @ x + b_z)
    r = sigmoid(w_xr @ x + params.w_h.T @ h + b_r)
    return np.tanh(params.w_a.T @ (r * h) + np.tanh(x) + b_h) * z + h * (1 - z)


CASE = Case(jaxrnn.MUT1(3), mut1)
