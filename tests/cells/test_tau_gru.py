"""TauGRU: its equations in NumPy and its own tests."""

import numpy as np

import jaxrnn
from tests.support.references import Case, Reference, parts, sigmoid


def tau_gru(hidden, delay):
    """Erichson et al. 2022: the state of `delay` steps before the last one beside the last one."""

    def step(params, state, x):
        h, past = state
        u_u, u_g, u_a, u_z = parts(params.w_x, 4)
        w_u, w_g, w_a = parts(params.w_h, 3)
        b_u, b_g, b_a, b_z = parts(params.b, 4)
        old = past[0]
        u = np.tanh(w_u @ h + u_u @ x + b_u)
        z = np.tanh(params.w_d.T @ old + u_z @ x + b_z)
        g = sigmoid(w_g @ h + u_g @ x + b_g)
        a = sigmoid(w_a @ h + u_a @ x + b_a)
        new = (1 - g) * h + g * (u + a * z)
        return (new, np.array([*past[1:], h])), new

    return Reference(step, lambda params: (np.zeros(hidden), np.zeros((delay, hidden))))


CASE = Case(
    jaxrnn.TauGRU(4, 2),
    tau_gru(4, 2),
    variants={
        "delay 1": Case(jaxrnn.TauGRU(4, 1), tau_gru(4, 1)),
        "delay 3": Case(jaxrnn.TauGRU(4, 3), tau_gru(4, 3)),
    },
)
