"""FastRNN: its equations in NumPy and its own tests."""

import jax
import numpy as np
import pytest

import jaxrnn
from tests.support.comparisons import to_numpy
from tests.support.references import Case, of_hidden, relu, sigmoid

pytestmark = pytest.mark.usefixtures("x64", "quick")


def fast_rnn(phi=np.tanh):
    @of_hidden(4)
    def reference(params, h, x):
        """Kusupati et al. 2018, FastRNN; alpha and beta lie between 0 and 1 by sigmoids, as in their code."""
        candidate = phi(params.w_x.T @ x + params.w_h.T @ h + params.b)
        return sigmoid(params.alpha) * candidate + sigmoid(params.beta) * h

    return reference


CASE = Case(
    jaxrnn.FastRNN(4),
    fast_rnn(),
    variants={
        "relu": Case(jaxrnn.FastRNN(4, activation=jax.nn.relu), fast_rnn(relu)),
    },
)


def test_initial_weights_of_the_sum():
    params = to_numpy(jaxrnn.FastRNN(3).init(jax.random.key(0), 2))
    assert (params.alpha, params.beta) == (-3, 3)
