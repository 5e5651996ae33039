"""DSGU: its equations in NumPy and its own tests."""

import numpy as np

import jaxrnn
from tests.support.references import Case, hard_sigmoid, of_hidden, parts, sigmoid


@of_hidden(4)
def dsgu(params, h, x):
    """Gao & Glowacka 2016, the deep simple gated unit."""
    w_z, w_g = parts(params.w_x, 2)
    b_z, b_g = parts(params.b, 2)
    x_g = w_g @ x + b_g
    z_g = np.tanh(params.w_g.T @ (x_g * h))
    z_out = sigmoid(params.w_o.T @ (z_g * h))
    z = hard_sigmoid(w_z @ x + params.w_h.T @ h + b_z)
    return (1 - z) * h + z * z_out


CASE = Case(jaxrnn.DSGU(4), dsgu)
