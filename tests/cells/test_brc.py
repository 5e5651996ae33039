"""BRC: its equations in NumPy and its own tests."""

import numpy as np

import jaxrnn
from tests.support.references import Case, of_hidden, parts, sigmoid


@of_hidden(4)
def brc(params, h, x):
    """Vecoven et al. 2021, BRC: recurrence of each unit with itself."""
    u_a, u_c, u = parts(params.w_x, 3)
    b_a, b_c, b = parts(params.b, 3)
    w_a, w_c = (np.diag(row) for row in params.w_h)
    a = 1 + np.tanh(u_a @ x + w_a @ h + b_a)
    c = sigmoid(u_c @ x + w_c @ h + b_c)
    return c * h + (1 - c) * np.tanh(u @ x + a * h + b)


CASE = Case(jaxrnn.BRC(4), brc)
