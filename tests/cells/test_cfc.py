"""CfC: its equations in NumPy and its own tests."""

import numpy as np

import jaxrnn
from tests.support.references import Case, of_hidden, parts, sigmoid


@of_hidden(4)
def cfc(params, h, x):
    """Hasani et al. 2022, eq. 10."""
    x, time = x[:-1], x[-1]
    u = np.tanh(params.w_x.T @ x + params.w_h.T @ h + params.b)
    w_f, w_g, w_k = parts(params.w_u, 3)
    b_f, b_g, b_k = parts(params.b_u, 3)
    gate = sigmoid(-(w_f @ u + b_f) * time)
    return gate * np.tanh(w_g @ u + b_g) + (1 - gate) * np.tanh(w_k @ u + b_k)


CASE = Case(jaxrnn.CfC(4, 5), cfc, reads_symbols=False)
