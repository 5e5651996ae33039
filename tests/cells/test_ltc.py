"""LTC: its equations in NumPy and its own tests."""

import numpy as np

import jaxrnn
from tests.support.references import Case, of_hidden, sigmoid


@of_hidden(4)
def ltc(params, h, x):
    """Hasani et al. 2021, algorithm 1 with three steps of 0.2."""
    tau = np.log(1 + np.exp(params.tau))
    for _ in range(3):
        f = sigmoid(params.w_h.T @ h + params.w_x.T @ x + params.b)
        h = (h + 0.2 * f * params.a) / (1 + 0.2 * (1 / tau + f))
    return h


CASE = Case(jaxrnn.LTC(4, dt=0.2, unfolds=3), ltc)
