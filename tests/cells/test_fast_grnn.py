"""FastGRNN: its equations in NumPy and its own tests."""

import numpy as np

import jaxrnn
from tests.support.references import Case, of_hidden, parts, sigmoid


@of_hidden(4)
def fast_grnn(params, h, x):
    """Kusupati et al. 2018, FastGRNN: sigmoid in the gate."""
    b_z, b_h = parts(params.b, 2)
    w, u = params.w_x.T, params.w_h.T
    z = sigmoid(w @ x + u @ h + b_z)
    candidate = np.tanh(w @ x + u @ h + b_h)
    return (sigmoid(params.zeta) * (1 - z) + sigmoid(params.nu)) * candidate + z * h


CASE = Case(jaxrnn.FastGRNN(4), fast_grnn)
