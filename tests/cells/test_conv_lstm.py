"""ConvLSTM: its equations in NumPy and its own tests."""

import numpy as np

import jaxrnn
from tests.support.references import Case, Reference, convolve, gates, sigmoid, zero_state

HIDDEN, CHANNELS = 2, 3


def conv_lstm(shape):
    """Shi et al. 2015, equation 3, without the peepholes."""

    def step(params, state, x):
        h, c = (np.reshape(s, (*shape, HIDDEN)) for s in state)
        w_xi, w_xf, w_xc, w_xo = gates(params.w_x, 4)
        w_hi, w_hf, w_hc, w_ho = gates(params.w_h, 4)
        b_i, b_f, b_c, b_o = gates(params.b, 4)
        i = sigmoid(convolve(w_xi, x) + convolve(w_hi, h) + b_i)
        f = sigmoid(convolve(w_xf, x) + convolve(w_hf, h) + b_f)
        c = f * c + i * np.tanh(convolve(w_xc, x) + convolve(w_hc, h) + b_c)
        o = sigmoid(convolve(w_xo, x) + convolve(w_ho, h) + b_o)
        h = o * np.tanh(c)
        return (h, c), h

    return Reference(step, zero_state((*shape, HIDDEN), (*shape, HIDDEN)), (*shape, CHANNELS))


CASE = Case(
    jaxrnn.ConvLSTM((4, 3), HIDDEN, 3),
    conv_lstm((4, 3)),
    reads_symbols=False,
    variants={
        "1-D": Case(jaxrnn.ConvLSTM((5,), HIDDEN, 4), conv_lstm((5,))),
        "3-D": Case(jaxrnn.ConvLSTM((2, 3, 2), HIDDEN, (3, 2, 1)), conv_lstm((2, 3, 2))),
    },
)
