"""The vanilla network's relatives: their arguments and initial values."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tables import INPUT, draw

import jaxrnn

pytestmark = pytest.mark.usefixtures("x64", "quick")


# ---- arguments -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: jaxrnn.ClockworkRNN(4, (2, 1)), "periods must be positive and increasing, but they are (2, 1)"),
        (lambda: jaxrnn.ClockworkRNN(4, (0, 1)), "periods must be positive and increasing, but they are (0, 1)"),
        (lambda: jaxrnn.ClockworkRNN(4, ()), "periods must be positive and increasing, but they are ()"),
        (lambda: jaxrnn.ClockworkRNN(4, (1, 2, 4)), "must be a multiple of the number of periods, 3, but it is 4"),
        (lambda: jaxrnn.DTRNN(4, 1), "DTRNN's depth must be at least 2, but it is 1: of depth 1 it is Elman"),
        (lambda: jaxrnn.DTSRNN(4, 1), "DTSRNN's depth must be at least 2, but it is 1"),
        (lambda: jaxrnn.DOTRNN(4, 2, 1), "DOTRNN's depth must be at least 2, but it is 1"),
        (lambda: jaxrnn.ScoRNN(4, 5), "ScoRNN's negatives must be from 0 to 4, but it is 5"),
    ],
)
def test_refuses(make, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        make()


# ---- initial values --------------------------------------------------------------------------------------------------


def test_irnn_is_a_rectified_network_that_begins_with_the_identity():
    """Le et al. 2015: without input a state stays as it is."""
    cell, key = jaxrnn.Elman(4, jax.nn.relu), jax.random.key(0)
    params = cell.init(key, INPUT)
    params = params._replace(w_h=jaxrnn.initializers.identity()(key, (4, 4)))
    state = jaxrnn.ElmanState(h=jnp.abs(draw(2, 4)))
    last, _ = jaxrnn.unroll(cell, params, jnp.zeros((9, 2, INPUT)), state)
    np.testing.assert_array_equal(last.h, state.h)
    np.testing.assert_array_equal(jaxrnn.initializers.identity(0.5)(key, (2, 2)), [[0.5, 0], [0, 0.5]])
