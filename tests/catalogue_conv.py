"""Convolutional cells, again in NumPy: a convolution is a loop over places and kernel positions."""

import numpy as np
from references import Case, Reference, sigmoid, zero_state

import jaxrnn

HIDDEN, CHANNELS = 2, 3


def convolve(kernel, image):
    """One output vector for each place: of each position of the kernel, its matrix times what lies there."""
    extent, positions = image.shape[:-1], kernel.shape[:-2]
    out = np.zeros((*extent, kernel.shape[-1]), np.result_type(kernel, image))
    for place in np.ndindex(*extent):
        for position in np.ndindex(*positions):
            # the kernel's middle, of an even number the former of both, lies on the place
            seen = tuple(p + k - (size - 1) // 2 for p, k, size in zip(place, position, positions, strict=True))
            if all(0 <= n < size for n, size in zip(seen, extent, strict=True)):  # beyond are zeros
                out[place] += kernel[position].T @ image[seen]
    return out


def gates(array, number):
    return np.split(array, number, axis=-1)


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


CELLS = {
    "ConvLSTM": Case(jaxrnn.ConvLSTM((4, 3), HIDDEN, 3), conv_lstm((4, 3))),
    "PeepholeConvLSTM": Case(jaxrnn.PeepholeConvLSTM((4, 3), HIDDEN, 3), peephole_conv_lstm((4, 3))),
    "ConvGRU": Case(jaxrnn.ConvGRU((4, 3), HIDDEN, (3, 2)), conv_gru((4, 3))),
}
VARIANTS = {
    "ConvLSTM, 1-D": Case(jaxrnn.ConvLSTM((5,), HIDDEN, 4), conv_lstm((5,))),
    "ConvLSTM, 3-D": Case(jaxrnn.ConvLSTM((2, 3, 2), HIDDEN, (3, 2, 1)), conv_lstm((2, 3, 2))),
}
VALUES = {  # compared in value only: what differs between dimensions is the same in all of these cells
    "PeepholeConvLSTM, 1-D": Case(jaxrnn.PeepholeConvLSTM((5,), HIDDEN, 3), peephole_conv_lstm((5,))),
    "PeepholeConvLSTM, 3-D": Case(jaxrnn.PeepholeConvLSTM((2, 3, 2), HIDDEN, 2), peephole_conv_lstm((2, 3, 2))),
    "ConvGRU, 1-D": Case(jaxrnn.ConvGRU((5,), HIDDEN, 3), conv_gru((5,))),
    "ConvGRU, 3-D": Case(jaxrnn.ConvGRU((2, 3, 2), HIDDEN, (3, 2, 1)), conv_gru((2, 3, 2))),
}
