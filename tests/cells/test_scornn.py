"""ScoRNN: its equations in NumPy and its own tests."""

import numpy as np

import jaxrnn
from tests.support.references import Case, mod_relu, of_hidden, skew


@of_hidden(4, analytic=False)
def scornn(params, h, x):
    """Helfrich et al. 2018, with two entries of D negative."""
    a = skew(params)
    w = np.linalg.inv(np.eye(4) + a) @ (np.eye(4) - a) @ np.diag([-1, -1, 1, 1])
    return mod_relu(w @ h + params.w_x.T @ x, params.b)


CASE = Case(jaxrnn.ScoRNN(4, negatives=2), scornn)
