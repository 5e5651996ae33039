"""JANET: its equations in NumPy and its own tests."""

import numpy as np

import jaxrnn
from tests.support.references import Case, Reference, parts, sigmoid, zero_state


def janet(hidden, beta):
    """Van der Westhuizen & Lasenby 2018: the memory is the state."""

    def step(params, state, x):
        (c,) = state
        w_f, w_g = parts(params.w_x, 2)
        r_f, r_g = parts(params.w_h, 2)
        b_f, b_g = parts(params.b, 2)
        s = w_f @ x + r_f @ c + b_f
        c = sigmoid(s) * c + (1 - sigmoid(s - beta)) * np.tanh(w_g @ x + r_g @ c + b_g)
        return (c,), c

    return Reference(step, zero_state(hidden))


CASE = Case(
    jaxrnn.JANET(4),
    janet(4, 1.0),
    variants={
        "beta": Case(jaxrnn.JANET(4, beta=0.25), janet(4, 0.25)),
    },
)
