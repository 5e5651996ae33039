"""Retention: its equations in NumPy and its own tests."""

import numpy as np

import jaxrnn
from tests.support.references import Case, Reference, heads_of, parts


def retention(hidden, heads):
    """Sun et al. 2023, eqs. 3 to 6, with matrices that turn pairs in the place of complex numbers."""
    d = hidden // heads

    def step(params, state, x):
        s, y = np.array(state[0]).reshape(heads, d // 2, d), []
        q, k, v = (heads_of(w @ x, heads) for w in parts(params.w_x, 3))
        for n in range(heads):
            for j in range(d // 2):
                pair = [j, j + d // 2]
                angle = 10000 ** (-2 * j / d)
                turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
                rows = np.stack([s[n, j].real, -s[n, j].imag])  # of the real memory, as many as there are keys
                rows = (1 - 2.0 ** (-5 - n)) * turn.T @ rows + np.outer(k[n][pair], v[n])
                s[n, j] = rows[0] - 1j * rows[1]
            memory = np.concatenate([s[n].real, -s[n].imag])
            y.append(memory.T @ q[n])
        return (s.ravel(),), np.concatenate(y)

    return Reference(step, lambda params: (np.zeros(heads * d * d // 2, complex),))


CASE = Case(jaxrnn.Retention(8, 2), retention(8, 2))
