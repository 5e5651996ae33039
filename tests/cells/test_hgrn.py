"""HGRN: its equations in NumPy and its own tests."""

import numpy as np

import jaxrnn
from tests.support.references import Case, Reference, parts, sigmoid, silu


def hgrn(hidden, bound):
    """Qin et al. 2023, section 3.2."""

    def step(params, state, x):
        (h,) = state
        w_re, w_im, w_f = parts(params.w_x, 3)
        b_re, b_im, b_f = parts(params.b, 3)
        c = silu(w_re @ x + b_re) + 1j * silu(w_im @ x + b_im)
        decay = bound + (1 - bound) * sigmoid(w_f @ x + b_f)
        h = decay * (np.cos(params.theta) + 1j * np.sin(params.theta)) * h + (1 - decay) * c
        return (h,), np.concatenate([h.real, h.imag])

    return Reference(step, lambda params: (np.zeros(hidden, complex),), analytic=False)


CASE = Case(jaxrnn.HGRN(4, lower_rate=0.3), hgrn(4, 0.3))
