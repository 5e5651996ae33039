"""MGU: its equations in NumPy and its own tests."""

import numpy as np

import jaxrnn
from tests.support.references import Case, of_hidden, parts, sigmoid


@of_hidden(4)
def mgu(params, h, x):
    """Zhou et al. 2016, eqs. 8 and 9: the gate multiplies the state before the product; gate 1 writes."""
    w_f, w_h = parts(params.w_x, 2)
    b_f, b_h = parts(params.b, 2)
    forget = sigmoid(params.w_h.T @ h + w_f @ x + b_f)
    candidate = np.tanh(params.w_a.T @ (forget * h) + w_h @ x + b_h)
    return (1 - forget) * h + forget * candidate


CASE = Case(jaxrnn.MGU(4), mgu)
