"""SGU: its equations in NumPy and its own tests."""

import numpy as np

import jaxrnn
from tests.support.references import Case, hard_sigmoid, of_hidden, parts


@of_hidden(4)
def sgu(params, h, x):
    """Gao & Glowacka 2016, the simple gated unit."""
    w_z, w_g = parts(params.w_x, 2)
    b_z, b_g = parts(params.b, 2)
    x_g = w_g @ x + b_g
    z_g = np.tanh(params.w_g.T @ (x_g * h))
    z_out = np.log(1 + np.exp(z_g * h))
    z = hard_sigmoid(w_z @ x + params.w_h.T @ h + b_z)
    return (1 - z) * h + z * z_out


CASE = Case(jaxrnn.SGU(4), sgu)
