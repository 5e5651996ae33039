"""LMU: its equations in NumPy and its own tests."""

import numpy as np
import scipy.linalg

import jaxrnn
from tests.support.references import Case, Reference, zero_state


def lmu(hidden, memory, theta):
    """Voelker et al. 2019, eqs. 1, 2, 4 to 7; held constant over a step, as SciPy discretizes it."""
    a, b = np.zeros((memory, memory)), np.zeros((memory, 1))
    for i in range(memory):
        b[i] = (2 * i + 1) * (-1) ** i
        for j in range(memory):
            a[i, j] = (2 * i + 1) * (-1 if i < j else (-1) ** (i - j + 1))
    both = np.zeros((memory + 1, memory + 1))
    both[:memory] = np.hstack([a, b]) / theta
    both = scipy.linalg.expm(both)
    a, b = both[:memory, :memory], both[:memory, memory]

    def step(params, state, x):
        h, m = state
        e_x, w_x = params.w_x[:, 0], params.w_x[:, 1:].T
        e_h, w_h = params.w_h[:, 0], params.w_h[:, 1:].T
        m = a @ m + b * (e_x @ x + e_h @ h + params.e_m[:, 0] @ m)
        h = np.tanh(w_x @ x + w_h @ h + params.w_m.T @ m)
        return (h, m), h

    return Reference(step, zero_state(hidden, memory))


CASE = Case(jaxrnn.LMU(4, 5, 6.0), lmu(4, 5, 6.0))
