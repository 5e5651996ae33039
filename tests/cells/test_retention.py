"""Retention: its equations in NumPy and its own tests."""

import numpy as np
import pytest

import jaxrnn
from jaxrnn import Retention, unroll
from tests.support.inputs import INPUT, draw, draw_params
from tests.support.references import Case, Reference, heads_of, parts

pytestmark = pytest.mark.usefixtures("x64", "quick")
TIME, SYMBOLS = 6, 5


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

    return Reference(step, lambda params: (np.zeros(heads * d * d // 2, complex),), analytic=False)


CASE = Case(jaxrnn.Retention(8, num_heads=2), retention(8, 2))


def test_retention_is_attention_with_rotary_positions_and_decay():
    """Sun et al. 2023, eq. 5, for each head."""
    heads, d = 2, 4
    cell, xs = Retention(heads * d, num_heads=heads), draw(TIME, INPUT)
    params = draw_params(cell)
    parts = np.split(xs @ np.asarray(params.w_x), 3, axis=-1)
    q, k, v = (part.reshape(TIME, heads, d) for part in parts)
    angles = np.outer(np.arange(TIME), 10000.0 ** (-2 * np.arange(d // 2) / d))[:, None]

    def turned(x):
        one, other = np.split(x, 2, axis=-1)
        first, second = one * np.cos(angles) - other * np.sin(angles), one * np.sin(angles) + other * np.cos(angles)
        return np.concatenate([first, second], axis=-1)

    age = np.arange(TIME)[:, None] - np.arange(TIME)
    ys = []
    for n in range(heads):
        decay = np.where(age >= 0, (1 - 2.0 ** (-5 - n)) ** age, 0)
        ys.append((turned(q)[:, n] @ turned(k)[:, n].T * decay) @ v[:, n])
    np.testing.assert_allclose(unroll(cell, params, xs)[1], np.concatenate(ys, axis=-1), rtol=1e-12)
