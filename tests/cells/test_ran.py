"""RAN: its equations in NumPy and its own tests."""

import numpy as np

import jaxrnn
from tests.support.references import Case, Reference, parts, sigmoid, zero_state


def ran(hidden, g=np.tanh):
    """Lee et al. 2017, eqs. 1."""

    def step(params, state, x):
        h, c = state
        w_c, w_i, w_f = parts(params.w_x, 3)
        r_i, r_f = parts(params.w_h, 2)
        b_i, b_f = parts(params.b, 2)
        content = w_c @ x
        c = sigmoid(w_i @ x + r_i @ h + b_i) * content + sigmoid(w_f @ x + r_f @ h + b_f) * c
        h = g(c)
        return (h, c), h

    return Reference(step, zero_state(hidden, hidden))


def difference(x):
    return x - 0.25 * x**3


CASE = Case(
    jaxrnn.RAN(4),
    ran(4),
    variants={
        "activation": Case(jaxrnn.RAN(4, activation=difference), ran(4, difference)),
    },
)
