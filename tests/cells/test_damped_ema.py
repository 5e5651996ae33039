"""DampedEMA: its equations in NumPy and its own tests."""

import numpy as np

import jaxrnn
from tests.support.references import Case, Reference, sigmoid


def damped_ema(params, state, x):
    """Ma et al. 2023, eqs. 6 to 8, one input after the other."""
    h, y = np.array(state[0]).reshape(params.alpha.shape), np.empty_like(x)
    for j in range(len(x)):
        alpha, delta = sigmoid(params.alpha[j]), sigmoid(params.delta[j])
        u = params.beta[j] * x[j]
        h[j] = alpha * u + (1 - alpha * delta) * h[j]
        y[j] = params.eta[j] @ h[j]
    return (h.ravel(),), y


CASE = Case(
    jaxrnn.DampedEMA(4),
    Reference(damped_ema, lambda params: (np.zeros(params.alpha.size),), analytic=False),
)
