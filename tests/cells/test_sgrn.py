"""SGRN: its equations in NumPy and its own tests."""

import numpy as np

import jaxrnn
from tests.support.references import Case, of_hidden, sigmoid


@of_hidden(4)
def sgrn(params, h, x):
    """Zu & Wei 2021: the input gate is one minus the forget gate, all of one product with the input."""
    wx = params.w_x.T @ x
    forget = sigmoid(wx + params.w_h.T @ h + params.b)
    return np.tanh((1 - forget) * wx + forget * h)


CASE = Case(jaxrnn.SGRN(4), sgrn)
