"""MiRU1: its equations in NumPy and its own tests."""

import numpy as np

import jaxrnn
from tests.support.references import Case, of_hidden, parts, sigmoid


def miru1(update):
    @of_hidden(4)
    def reference(params, h, x):
        """Zyarah & Kudithipudi 2025, MiRU-1."""
        w_r, w_h = parts(params.w_x, 2)
        b_r, b_h = parts(params.b, 2)
        reset = sigmoid(w_r @ x + params.w_h.T @ h + b_r)
        candidate = np.tanh(w_h @ x + params.w_a.T @ (reset * h) + b_h)
        return update * h + (1 - update) * candidate

    return reference


CASE = Case(jaxrnn.MiRU1(4, update_rate=0.7), miru1(0.7))
