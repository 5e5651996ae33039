"""MinimalRNN: its equations in NumPy and its own tests."""

import numpy as np

import jaxrnn
from tests.support.references import Case, of_hidden, sigmoid


@of_hidden(4)
def minimal_rnn(params, h, x):
    """Chen 2017, with one tanh layer for the latent input."""
    z = np.tanh(params.w_x.T @ x + params.b_x)
    u = sigmoid(params.w_h.T @ h + params.w_z.T @ z + params.b)
    return u * h + (1 - u) * z


CASE = Case(jaxrnn.MinimalRNN(4), minimal_rnn)
