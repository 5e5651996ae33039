"""RecurrentHighwayNetwork: its equations in NumPy and its own tests."""

import jax
import numpy as np
import pytest

import jaxrnn
from tests.support.comparisons import to_numpy
from tests.support.references import Case, of_hidden, parts, sigmoid

pytestmark = pytest.mark.usefixtures("x64", "quick")


def recurrent_highway_network(depth):
    @of_hidden(4)
    def reference(params, h, x):
        """Zilly et al. 2017, eqs. 6 to 9, with c = 1 - t."""
        w_h, w_t = parts(params.w_x, 2)
        for layer in range(depth):
            r_h, r_t = parts(params.w_h[layer], 2)
            b_h, b_t = parts(params.b[layer], 2)
            first = 1 if layer == 0 else 0
            new = np.tanh(first * (w_h @ x) + r_h @ h + b_h)
            transform = sigmoid(first * (w_t @ x) + r_t @ h + b_t)
            h = new * transform + h * (1 - transform)
        return h

    return reference


CASE = Case(
    jaxrnn.RecurrentHighwayNetwork(4, depth_size=3),
    recurrent_highway_network(3),
    variants={
        "one layer": Case(jaxrnn.RecurrentHighwayNetwork(4, depth_size=1), recurrent_highway_network(1)),
    },
)


def test_initial_biases_of_the_transform_gates():
    params = to_numpy(jaxrnn.RecurrentHighwayNetwork(2, depth_size=3, transform_bias=-1.5).init(jax.random.key(0), 2))
    np.testing.assert_array_equal(params.b, [[0, 0, -1.5, -1.5]] * 3)
