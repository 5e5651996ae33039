"""TRNN: its equations in NumPy and its own tests."""

import jaxrnn
from tests.support.references import Case, Reference, parts, sigmoid, zero_state


def trnn(hidden):
    """Balduzzi & Ghifary 2016, T-RNN."""

    def step(params, state, x):
        (h,) = state
        w, v = parts(params.w_x, 2)
        forget_gate = sigmoid(v @ x + params.b)
        h = forget_gate * h + (1 - forget_gate) * (w @ x)
        return (h,), h

    return Reference(step, zero_state(hidden))


CASE = Case(jaxrnn.TRNN(4), trnn(4))
