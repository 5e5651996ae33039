"""MinLSTM: its equations in NumPy and its own tests."""

import jaxrnn
from tests.support.references import Case, Reference, parts, sigmoid, zero_state


def min_lstm(hidden):
    """Feng et al. 2024, section 3.2."""

    def step(params, state, x):
        (h,) = state
        w_f, w_i, w_h = parts(params.w_x, 3)
        b_f, b_i, b_h = parts(params.b, 3)
        f, i = sigmoid(w_f @ x + b_f), sigmoid(w_i @ x + b_i)
        h = f / (f + i) * h + i / (f + i) * (w_h @ x + b_h)
        return (h,), h

    return Reference(step, zero_state(hidden))


CASE = Case(jaxrnn.MinLSTM(4), min_lstm(4))
