"""HyperLSTM: its equations in NumPy and its own tests."""

import numpy as np

import jaxrnn
from tests.support.references import Case, Reference, parts, sigmoid, zero_state


def hyper_lstm(hidden, hyper, embedding):
    """Ha et al. 2016, appendix A.2: gate by gate, the small LSTM reading the large one's state and the input."""

    def step(params, state, x):
        h, c, h_hat, c_hat = state
        x_hat = np.concatenate([h, h_hat])
        w = parts(params.hyper_w_x, 4)
        r = parts(params.hyper_w_h, 4)
        i, f, g, o = (w[k] @ x + r[k] @ x_hat + np.split(params.hyper_b, 4)[k] for k in range(4))
        c_hat = sigmoid(f) * c_hat + sigmoid(i) * np.tanh(g)
        h_hat = sigmoid(o) * np.tanh(c_hat)
        gate = []
        for k in range(4):
            z = [parts(params.w_z, 12)[4 * kind + k] @ h_hat for kind in range(3)]  # of h, x, b
            z[0] = z[0] + params.b_z[k * embedding : (k + 1) * embedding]
            z[1] = z[1] + params.b_z[(4 + k) * embedding : (5 + k) * embedding]
            d_h, d_x, d_b = (params.w_d[4 * kind + k].T @ z[kind] for kind in range(3))
            rows = slice(k * hidden, (k + 1) * hidden)
            scaled_h, scaled_x = np.diag(d_h) @ params.w_h.T[rows], np.diag(d_x) @ params.w_x.T[rows]
            gate.append(scaled_h @ h + scaled_x @ x + d_b + params.b[rows])
        c = sigmoid(gate[1]) * c + sigmoid(gate[0]) * np.tanh(gate[2])
        h = sigmoid(gate[3]) * np.tanh(c)
        return (h, c, h_hat, c_hat), h

    return Reference(step, zero_state(hidden, hidden, hyper, hyper))


CASE = Case(jaxrnn.HyperLSTM(4, 3, 2), hyper_lstm(4, 3, 2))
