"""CFN: its equations in NumPy and its own tests."""

import numpy as np

import jaxrnn
from tests.support.references import Case, of_hidden, parts, sigmoid


@of_hidden(4)
def cfn(params, h, x):
    """Laurent & von Brecht 2017, eqs. 1 and 2."""
    v_theta, v_eta, w = parts(params.w_x, 3)
    u_theta, u_eta = parts(params.w_h, 2)
    b_theta, b_eta = parts(params.b, 2)
    theta = sigmoid(u_theta @ h + v_theta @ x + b_theta)
    eta = sigmoid(u_eta @ h + v_eta @ x + b_eta)
    return theta * np.tanh(h) + eta * np.tanh(w @ x)


CASE = Case(jaxrnn.CFN(4), cfn)
