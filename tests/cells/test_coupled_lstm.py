"""CoupledLSTM: its equations in NumPy and its own tests."""

import numpy as np

import jaxrnn
from tests.support.references import Case, Reference, parts, sigmoid, zero_state


def coupled_lstm(hidden):
    """Greff et al. 2015, CIFG without peepholes: the input gate is what the forget gate leaves."""

    def step(params, state, x):
        h, c = state
        w_f, w_g, w_o = parts(params.w_x, 3)
        r_f, r_g, r_o = parts(params.w_h, 3)
        b_f, b_g, b_o = parts(params.b, 3)
        input_gate = sigmoid(-(w_f @ x + r_f @ h + b_f))
        candidate = np.tanh(w_g @ x + r_g @ h + b_g)
        output_gate = sigmoid(w_o @ x + r_o @ h + b_o)
        c = (1 - input_gate) * c + input_gate * candidate
        h = output_gate * np.tanh(c)
        return (h, c), h

    return Reference(step, zero_state(hidden, hidden))


CASE = Case(jaxrnn.CoupledLSTM(4), coupled_lstm(4))
