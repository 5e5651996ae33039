"""MiRU2: its equations in NumPy and its own tests."""

import numpy as np

import jaxrnn
from tests.support.references import Case, of_hidden


def miru2(update, reset):
    @of_hidden(4)
    def reference(params, h, x):
        """Zyarah & Kudithipudi 2025, MiRU-2."""
        candidate = np.tanh(params.w_x.T @ x + params.w_h.T @ (reset * h) + params.b)
        return update * h + (1 - update) * candidate

    return reference


CASE = Case(jaxrnn.MiRU2(4, update_rate=0.7, reset_rate=0.4), miru2(0.7, 0.4))
