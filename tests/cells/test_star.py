"""STAR: its equations in NumPy and its own tests."""

import numpy as np

import jaxrnn
from tests.support.references import Case, of_hidden, parts, sigmoid


@of_hidden(4)
def star(params, h, x):
    """Turkoglu et al. 2021."""
    w_k, w_z = parts(params.w_x, 2)
    b_k, b_z = parts(params.b, 2)
    z = np.tanh(w_z @ x + b_z)
    k = sigmoid(w_k @ x + params.w_h.T @ h + b_k)
    return np.tanh((1 - k) * h + k * z)


CASE = Case(jaxrnn.STAR(4), star)
