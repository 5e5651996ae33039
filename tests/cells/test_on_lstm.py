"""ONLSTM: its equations in NumPy and its own tests."""

import numpy as np

import jaxrnn
from tests.support.references import Case, Reference, parts, sigmoid, zero_state


def on_lstm(hidden, chunk):
    """Shen et al. 2019, eqs. 6 to 14: cumax master gates, each entry for a chunk of memories."""

    def cumax(a):
        weights = np.exp(a) / np.exp(a).sum()
        return np.array([weights[: k // chunk + 1].sum() for k in range(hidden)])

    def step(params, state, x):
        h, c = state
        w_i, w_f, w_g, w_o = parts(params.w_x, 4)
        r_i, r_f, r_g, r_o = parts(params.w_h, 4)
        b_i, b_f, b_g, b_o = parts(params.b, 4)
        w_mi, w_mf = parts(params.w_x_master, 2)
        r_mi, r_mf = parts(params.w_h_master, 2)
        b_mi, b_mf = parts(params.b_master, 2)
        master_forget = cumax(w_mf @ x + r_mf @ h + b_mf)
        master_input = 1 - cumax(w_mi @ x + r_mi @ h + b_mi)
        overlap = master_forget * master_input
        forget_gate = sigmoid(w_f @ x + r_f @ h + b_f) * overlap + (master_forget - overlap)
        input_gate = sigmoid(w_i @ x + r_i @ h + b_i) * overlap + (master_input - overlap)
        c = forget_gate * c + input_gate * np.tanh(w_g @ x + r_g @ h + b_g)
        h = sigmoid(w_o @ x + r_o @ h + b_o) * np.tanh(c)
        return (h, c), h

    return Reference(step, zero_state(hidden, hidden))


CASE = Case(
    jaxrnn.ONLSTM(4, chunk_size=2),
    on_lstm(4, 2),
    variants={
        "no chunks": Case(jaxrnn.ONLSTM(4), on_lstm(4, 1)),
        "one chunk": Case(jaxrnn.ONLSTM(4, chunk_size=4), on_lstm(4, 4)),
    },
)
