"""MinGRU: its equations in NumPy and its own tests."""

import jaxrnn
from tests.support.references import Case, Reference, parts, sigmoid, zero_state


def min_gru(hidden):
    """Feng et al. 2024, section 3.1."""

    def step(params, state, x):
        (h,) = state
        w_z, w_h = parts(params.w_x, 2)
        b_z, b_h = parts(params.b, 2)
        z = sigmoid(w_z @ x + b_z)
        h = (1 - z) * h + z * (w_h @ x + b_h)
        return (h,), h

    return Reference(step, zero_state(hidden))


CASE = Case(jaxrnn.MinGRU(4), min_gru(4))
