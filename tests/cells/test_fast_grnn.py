"""FastGRNN: its equations in NumPy and its own tests."""

import jax
import numpy as np
import pytest

import jaxrnn
from tests.support.comparisons import to_numpy
from tests.support.references import Case, of_hidden, parts, sigmoid

pytestmark = pytest.mark.usefixtures("x64", "quick")


@of_hidden(4)
def fast_grnn(params, h, x):
    """Kusupati et al. 2018, FastGRNN: sigmoid in the gate."""
    b_z, b_h = parts(params.b, 2)
    w, u = params.w_x.T, params.w_h.T
    z = sigmoid(w @ x + u @ h + b_z)
    candidate = np.tanh(w @ x + u @ h + b_h)
    return (sigmoid(params.zeta) * (1 - z) + sigmoid(params.nu)) * candidate + z * h


CASE = Case(jaxrnn.FastGRNN(4), fast_grnn)


def test_initial_weights_of_the_sum():
    params = to_numpy(jaxrnn.FastGRNN(3, zeta=0.5, nu=-2.0).init(jax.random.key(0), 2))
    assert (params.zeta, params.nu) == (0.5, -2)
