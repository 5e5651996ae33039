"""ATR: its equations in NumPy and its own tests."""

import jaxrnn
from tests.support.references import Case, of_hidden, sigmoid


@of_hidden(4)
def atr(params, h, x):
    """Zhang et al. 2018."""
    p, q = params.w_x.T @ x, params.w_h.T @ h
    input_gate, forget_gate = sigmoid(p + q), sigmoid(p - q)
    return input_gate * p + forget_gate * h


CASE = Case(jaxrnn.ATR(4), atr)
