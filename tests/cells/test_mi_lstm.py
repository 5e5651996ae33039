"""MILSTM: its equations in NumPy and its own tests."""

import numpy as np

import jaxrnn
from tests.support.references import Case, Reference, integrated, parts, sigmoid, zero_state


def mi_lstm(hidden):
    """Wu et al. 2016: each of the LSTM's four blocks integrates so."""

    def step(params, state, x):
        h, c = state
        blocks = zip(*(parts(leaf, 4) for leaf in (params.w_x, params.w_h, params.alpha)), strict=True)
        betas = zip(*(parts(beta, 4) for beta in params.beta), strict=True)
        i, f, g, o = (
            integrated(*block, *beta, b, x, h) for block, beta, b in zip(blocks, betas, parts(params.b, 4), strict=True)
        )
        c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
        h = sigmoid(o) * np.tanh(c)
        return (h, c), h

    return Reference(step, zero_state(hidden, hidden))


CASE = Case(jaxrnn.MILSTM(4), mi_lstm(4))
