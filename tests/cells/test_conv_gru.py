"""ConvGRU: its equations in NumPy and its own tests."""

import numpy as np

import jaxrnn
from tests.support.references import Case, Reference, convolve, gates, sigmoid, zero_state

HIDDEN, CHANNELS = 2, 3


def conv_gru(shape):
    """Ballas et al. 2016, equations of the GRU-RCN."""

    def step(params, state, x):
        (h,) = state
        h = np.reshape(h, (*shape, HIDDEN))
        w_z, w_r, w = gates(params.w_x, 3)
        u_z, u_r = gates(params.w_h, 2)
        b_z, b_r, b = gates(params.b, 3)
        z = sigmoid(convolve(w_z, x) + convolve(u_z, h) + b_z)
        r = sigmoid(convolve(w_r, x) + convolve(u_r, h) + b_r)
        candidate = np.tanh(convolve(w, x) + convolve(params.w_a, r * h) + b)
        h = (1 - z) * h + z * candidate
        return (h,), h

    return Reference(step, zero_state((*shape, HIDDEN)), (*shape, CHANNELS))


CASE = Case(
    jaxrnn.ConvGRU((4, 3), HIDDEN, (3, 2)),
    conv_gru((4, 3)),
    reads_symbols=False,
    variants={
        "1-D": Case(jaxrnn.ConvGRU((5,), HIDDEN, 3), conv_gru((5,))),
        "3-D": Case(jaxrnn.ConvGRU((2, 3, 2), HIDDEN, (3, 2, 1)), conv_gru((2, 3, 2))),
    },
)
