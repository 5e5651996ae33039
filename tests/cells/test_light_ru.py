"""LightRU: its equations in NumPy and its own tests."""

import numpy as np

import jaxrnn
from tests.support.references import Case, of_hidden, parts, sigmoid


@of_hidden(4)
def light_ru(params, h, x):
    """Ye et al. 2024."""
    w_f, w_h = parts(params.w_x, 2)
    candidate = np.tanh(w_h @ x)
    forget = sigmoid(w_f @ x + params.w_h.T @ h + params.b)
    return (1 - forget) * h + forget * candidate


CASE = Case(jaxrnn.LightRU(4), light_ru)
