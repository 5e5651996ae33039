"""MIRNN: its equations in NumPy and its own tests."""

import numpy as np

import jaxrnn
from tests.support.references import Case, Reference, integrated, zero_state


def mi_rnn(hidden):
    def step(params, state, x):
        (h,) = state
        h = np.tanh(integrated(params.w_x.T, params.w_h.T, params.alpha, *params.beta, params.b, x, h))
        return (h,), h

    return Reference(step, zero_state(hidden))


CASE = Case(jaxrnn.MIRNN(4), mi_rnn(4))
