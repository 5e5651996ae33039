"""SCRN: its equations in NumPy and its own tests."""

import numpy as np

import jaxrnn
from tests.support.references import Case, Reference, sigmoid, zero_state


def scrn(hidden, context, alpha):
    def step(params, state, x):
        """Mikolov et al. 2014, eqs. 4 to 6 without the output layer."""
        h, s = state
        s = (1 - alpha) * (params.w_x[:, :context].T @ x) + alpha * s
        h = sigmoid(params.w_s.T @ s + params.w_x[:, context:].T @ x + params.w_h.T @ h)
        return (h, s), np.concatenate([h, s])

    return Reference(step, zero_state(hidden, context))


CASE = Case(jaxrnn.SCRN(4, 2, decay_rate=0.7), scrn(4, 2, 0.7))
