"""RGLRU: its equations in NumPy and its own tests."""

import numpy as np

import jaxrnn
from tests.support.references import Case, Reference, parts, sigmoid, softplus


def rg_lru(params, state, x):
    """De et al. 2024, section 2.4."""
    (h,) = state
    w_r, w_i = parts(params.w_x, 2)
    b_r, b_i = parts(params.b, 2)
    r, i = sigmoid(w_r @ x + b_r), sigmoid(w_i @ x + b_i)
    a = np.exp(-softplus(params.decay)) ** (8 * r)
    h = a * h + np.sqrt(1 - a**2) * (i * x)
    return (h,), h


CASE = Case(jaxrnn.RGLRU(), Reference(rg_lru, lambda params: (np.zeros(len(params.decay)),)))
