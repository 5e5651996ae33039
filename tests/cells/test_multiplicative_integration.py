"""MIRNN and MILSTM against Elman and LSTM."""

import jax
import numpy as np
import pytest

import jaxrnn
from jaxrnn import unroll
from tests.support.comparisons import assert_close
from tests.support.inputs import draw, draw_params

pytestmark = pytest.mark.usefixtures("x64", "quick")
TIME, BATCH = 4, 2


@pytest.mark.parametrize("kind", ["RNN", "LSTM"])
def test_without_its_product_multiplicative_integration_is_additive(kind):
    cell, plain = (jaxrnn.MIRNN(4), jaxrnn.Elman(4)) if kind == "RNN" else (jaxrnn.MILSTM(4), jaxrnn.LSTM(4))
    params, xs = draw_params(cell), draw(TIME, BATCH, 3)
    params = params._replace(alpha=0 * params.alpha)
    of_h, of_x = params.beta
    sums = plain.init(jax.random.key(0), 3)._replace(w_x=params.w_x * of_x, w_h=params.w_h * of_h, b=params.b)
    assert_close(unroll(cell, params, xs), unroll(plain, sums, xs))


def test_first_values_of_multiplicative_integration():
    params = jaxrnn.MILSTM(4, alpha=2, beta=1, forget_bias=3.0).init(jax.random.key(0), 3)
    assert (params.alpha == 2).all()
    assert (params.beta == 1).all()
    np.testing.assert_array_equal(params.b, np.repeat([0, 3, 0, 0], 4))
    params = jaxrnn.MIRNN(4, alpha=2, beta=1).init(jax.random.key(0), 3)
    assert (params.alpha == 2).all()
    assert (params.beta == 1).all()
