"""PeepholeConvLSTM: its equations in NumPy and its own tests."""

import numpy as np

import jaxrnn
from tests.support.references import Case, Reference, convolve, gates, sigmoid, zero_state

HIDDEN, CHANNELS = 2, 3


def peephole_conv_lstm(shape):
    """Shi et al. 2015, equation 3."""

    def step(params, state, x):
        h, c = (np.reshape(s, (*shape, HIDDEN)) for s in state)
        w_xi, w_xf, w_xc, w_xo = gates(params.w_x, 4)
        w_hi, w_hf, w_hc, w_ho = gates(params.w_h, 4)
        w_ci, w_cf, w_co = params.w_c
        b_i, b_f, b_c, b_o = gates(params.b, 4)
        i = sigmoid(convolve(w_xi, x) + convolve(w_hi, h) + w_ci * c + b_i)
        f = sigmoid(convolve(w_xf, x) + convolve(w_hf, h) + w_cf * c + b_f)
        c = f * c + i * np.tanh(convolve(w_xc, x) + convolve(w_hc, h) + b_c)
        o = sigmoid(convolve(w_xo, x) + convolve(w_ho, h) + w_co * c + b_o)  # sees the new memory
        h = o * np.tanh(c)
        return (h, c), h

    return Reference(step, zero_state((*shape, HIDDEN), (*shape, HIDDEN)), (*shape, CHANNELS))


CASE = Case(
    jaxrnn.PeepholeConvLSTM((4, 3), HIDDEN, 3),
    peephole_conv_lstm((4, 3)),
    reads_symbols=False,
    variants={
        "1-D": Case(jaxrnn.PeepholeConvLSTM((5,), HIDDEN, 3), peephole_conv_lstm((5,))),
        "3-D": Case(jaxrnn.PeepholeConvLSTM((2, 3, 2), HIDDEN, 2), peephole_conv_lstm((2, 3, 2))),
    },
)
