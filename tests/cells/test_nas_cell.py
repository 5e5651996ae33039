"""NASCell: its equations in NumPy and its own tests."""

import numpy as np

import jaxrnn
from tests.support.references import Case, Reference, parts, sigmoid, zero_state


def nas_cell(hidden):
    """Zoph & Le 2017: three layers of a tree, and the memory enters at the second."""

    def relu(a):
        return np.maximum(a, 0)

    def step(params, state, x):
        h, c = state
        from_x = [w @ x for w in parts(params.w_x, 8)]
        from_h = [r @ h + b for r, b in zip(parts(params.w_h, 8), np.split(params.b, 8), strict=True)]
        both = [a + b for a, b in zip(from_x, from_h, strict=True)]
        first = [
            sigmoid(both[0]),
            relu(both[1]),
            sigmoid(both[2]),
            relu(from_x[3] * from_h[3]),
            np.tanh(both[4]),
            sigmoid(both[5]),
            np.tanh(both[6]),
            sigmoid(both[7]),
        ]
        second = [
            np.tanh(first[0] * first[1]),
            np.tanh(first[2] + first[3]),
            np.tanh(first[4] * first[5]),
            sigmoid(first[6] + first[7]),
        ]
        c = np.tanh(second[0] + c) * second[1]
        h = np.tanh(c * np.tanh(second[2] + second[3]))
        return (h, c), h

    return Reference(step, zero_state(hidden, hidden))


CASE = Case(jaxrnn.NASCell(4), nas_cell(4))
