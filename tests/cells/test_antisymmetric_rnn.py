"""AntisymmetricRNN: its equations in NumPy and its own tests."""

import numpy as np

import jaxrnn
from tests.support.references import Case, of_hidden


@of_hidden(4)
def antisymmetric_rnn(params, h, x):
    """Chang et al. 2019, eq. 14."""
    w = params.w_h.T
    return h + 0.2 * np.tanh((w - w.T - 0.05 * np.eye(4)) @ h + params.w_x.T @ x + params.b)


CASE = Case(jaxrnn.AntisymmetricRNN(4, epsilon=0.2, gamma=0.05), antisymmetric_rnn)
