"""ResidualElman: its equations in NumPy and its own tests."""

import numpy as np

import jaxrnn
from tests.support.references import Case, of_hidden, relu


@of_hidden(4)
def residual_elman(params, h, x):
    """Hu et al. 2018: the identity beside the recurrent matrix."""
    return relu(params.w_x.T @ x + (params.w_h.T + np.eye(4)) @ h + params.b)


CASE = Case(jaxrnn.ResidualElman(4), residual_elman)
