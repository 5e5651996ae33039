"""GatedFeedbackLSTM: its equations in NumPy and its own tests."""

import numpy as np

import jaxrnn
from tests.support.references import Case, Reference, parts, sigmoid


def gated_feedback_lstm(hidden, depth):
    """Chung et al. 2015: a number decides how much of layer i's past the layer j sees."""

    def step(params, state, x):
        hs, cs = (np.reshape(leaf, (depth, hidden)) for leaf in state)
        everything = np.concatenate(list(hs))
        below, new_h, new_c = x, [], []
        for j in range(depth):
            w = (params.w_u[j - 1] if j else params.w_x).T
            w_i, w_f, w_g, w_o = np.split(w[: 4 * hidden], 4)
            u_i, u_f, u_o = parts(params.w_h[j], 3)
            b_i, b_f, b_g, b_o = parts(params.b[j], 4)
            content = w_g @ below + b_g
            for i in range(depth):
                gate = sigmoid(w[4 * hidden + i] @ below + params.w_s[j][:, i] @ everything)
                content = content + gate * (params.w_g[j][i * hidden : (i + 1) * hidden].T @ hs[i])
            forget = sigmoid(w_f @ below + u_f @ hs[j] + b_f)
            write = sigmoid(w_i @ below + u_i @ hs[j] + b_i)
            new_c.append(forget * cs[j] + write * np.tanh(content))
            new_h.append(sigmoid(w_o @ below + u_o @ hs[j] + b_o) * np.tanh(new_c[-1]))
            below = new_h[-1]
        return (np.array(new_h), np.array(new_c)), below

    return Reference(step, lambda params: (np.zeros((depth, hidden)), np.zeros((depth, hidden))))


CASE = Case(jaxrnn.GatedFeedbackLSTM(4, 2), gated_feedback_lstm(4, 2))
