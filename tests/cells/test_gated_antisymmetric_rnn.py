"""GatedAntisymmetricRNN: its equations in NumPy and its own tests."""

import numpy as np

import jaxrnn
from tests.support.references import Case, of_hidden, parts, sigmoid


@of_hidden(4)
def gated_antisymmetric_rnn(params, h, x):
    """Chang et al. 2019, eqs. 16 and 17."""
    w = params.w_h.T
    v_z, v_h = parts(params.w_x, 2)
    b_z, b_h = parts(params.b, 2)
    z = sigmoid((w - w.T - 0.05 * np.eye(4)) @ h + v_z @ x + b_z)
    return h + 0.2 * z * np.tanh((w - w.T - 0.05 * np.eye(4)) @ h + v_h @ x + b_h)


CASE = Case(jaxrnn.GatedAntisymmetricRNN(4, epsilon=0.2, gamma=0.05), gated_antisymmetric_rnn)
