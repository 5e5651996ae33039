"""GridLSTM: its equations in NumPy and its own tests."""

import numpy as np

import jaxrnn
from tests.support.references import Case, Reference, parts, sigmoid


def grid_lstm(hidden, depth):
    """Kalchbrenner et al. 2016, in two dimensions; the input enters the depth from below as h and m."""

    def lstm(weights, biases, hidden_vectors, memory):
        """Their LSTM(H, m, W), the gates in the order u, f, o, c."""
        stacked = np.concatenate(hidden_vectors)
        u, f, o, c = (w @ stacked + b for w, b in zip(weights, biases, strict=True))
        memory = sigmoid(f) * memory + sigmoid(u) * np.tanh(c)
        return np.tanh(sigmoid(o) * memory), memory

    def step(params, state, x):
        hs, ms, _ = (np.array(leaf) for leaf in state)
        hs, ms = hs.reshape(depth, hidden), ms.reshape(depth, hidden)
        up, up_m = (v @ x for v in parts(params.w_x, 2))
        new_h, new_m = [], []
        for layer in range(depth):
            weights = parts(np.concatenate([params.w_h[layer], params.w_u[layer]]), 8)
            biases = parts(params.b[layer], 8)
            sides = [hs[layer], up]
            in_time = lstm(weights[:4], biases[:4], sides, ms[layer])
            up, up_m = lstm(weights[4:], biases[4:], sides, up_m)
            new_h.append(in_time[0])
            new_m.append(in_time[1])
        return (np.array(new_h), np.array(new_m), up), up

    return Reference(step, lambda params: (np.zeros((depth, hidden)), np.zeros((depth, hidden)), np.zeros(hidden)))


CASE = Case(jaxrnn.GridLSTM(4, 2), grid_lstm(4, 2))
