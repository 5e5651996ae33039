"""LayerNormLSTM: its equations in NumPy and its own tests."""

import numpy as np

import jaxrnn
from tests.support.references import Case, Reference, sigmoid, zero_state


def layer_norm(a, gain, epsilon):
    variance = np.mean((a - np.mean(a)) ** 2)
    return gain * (a - np.mean(a)) / np.sqrt(variance + epsilon)


def layer_norm_lstm(hidden, epsilon=1e-6):
    """Ba et al. 2016, supplementary material: each product is normalized over all gates; so is the output memory."""

    def step(params, state, x):
        h, c = state
        from_x = layer_norm(params.w_x.T @ x, params.gain_x, epsilon)
        from_h = layer_norm(params.w_h.T @ h, params.gain_h, epsilon)
        i, f, g, o = np.split(from_x + from_h + params.b, 4)
        c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
        h = sigmoid(o) * np.tanh(layer_norm(c, params.gain_c, epsilon) + params.b_c)
        return (h, c), h

    return Reference(step, zero_state(hidden, hidden))


CASE = Case(
    jaxrnn.LayerNormLSTM(4),
    layer_norm_lstm(4),
    variants={
        "epsilon": Case(jaxrnn.LayerNormLSTM(4, epsilon=0.1), layer_norm_lstm(4, 0.1)),
    },
)
