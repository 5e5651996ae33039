"""LayerNormElman: its equations in NumPy and its own tests."""

import numpy as np

import jaxrnn
from tests.support.references import Case, of_hidden


@of_hidden(4)
def layer_norm_elman(params, h, x):
    """Ba et al. 2016, eq. 4."""
    a = params.w_h.T @ h + params.w_x.T @ x
    mean = sum(a) / len(a)
    variance = sum((a - mean) ** 2) / len(a)
    return np.tanh(params.gain / np.sqrt(variance + 1e-5) * (a - mean) + params.b)


CASE = Case(jaxrnn.LayerNormElman(4), layer_norm_elman)
