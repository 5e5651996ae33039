"""IndRNN: its equations in NumPy and its own tests."""

import numpy as np

import jaxrnn
from tests.support.references import Case, of_hidden, relu


@of_hidden(4)
def ind_rnn(params, h, x):
    """Li et al. 2018, eq. 2."""
    return relu(params.w_x.T @ x + np.diag(params.w_h) @ h + params.b)


CASE = Case(jaxrnn.IndRNN(4), ind_rnn)
