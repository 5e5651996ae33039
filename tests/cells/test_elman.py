"""Elman: its equations in NumPy and its own tests."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxrnn
from tests.support.inputs import INPUT, draw
from tests.support.references import Case, Reference, relu, zero_state

pytestmark = pytest.mark.usefixtures("x64", "quick")


def elman(hidden, phi=np.tanh):
    """Elman 1990, eq. of the hidden layer."""

    def step(params, state, x):
        (h,) = state
        h = phi(params.w_x.T @ x + params.w_h.T @ h + params.b)
        return (h,), h

    return Reference(step, zero_state(hidden))


CASE = Case(
    jaxrnn.Elman(4),
    elman(4),
    variants={
        "relu": Case(jaxrnn.Elman(4, activation=jax.nn.relu), elman(4, relu)),
    },
)


def test_irnn_is_a_rectified_network_that_begins_with_the_identity():
    """Le et al. 2015: without input a state stays as it is."""
    cell, key = jaxrnn.Elman(4, activation=jax.nn.relu), jax.random.key(0)
    params = cell.init(key, INPUT)
    params = params._replace(w_h=jaxrnn.initializers.identity()(key, (4, 4)))
    state = jaxrnn.cells.ElmanState(h=jnp.abs(draw(2, 4)))
    last, _ = jaxrnn.unroll(cell, params, jnp.zeros((9, 2, INPUT)), state)
    np.testing.assert_array_equal(last.h, state.h)
    np.testing.assert_array_equal(jaxrnn.initializers.identity(0.5)(key, (2, 2)), [[0.5, 0], [0, 0.5]])
