"""LipschitzRNN: its equations in NumPy and its own tests."""

import jax
import numpy as np
import pytest

import jaxrnn
from jaxrnn import LipschitzRNN, unroll
from tests.support.inputs import INPUT, draw
from tests.support.references import Case, of_hidden

pytestmark = pytest.mark.usefixtures("x64", "quick")


@of_hidden(4)
def lipschitz_rnn(params, h, x):
    """Erichson et al. 2021, one Euler step; the constants are those of CASE."""
    m_a, m_w = params.m[:, :4].T, params.m[:, 4:].T
    a = (1 - 0.7) * (m_a + m_a.T) + 0.7 * (m_a - m_a.T) - 0.05 * np.eye(4)
    w = (1 - 0.4) * (m_w + m_w.T) + 0.4 * (m_w - m_w.T) - 0.3 * np.eye(4)
    return h + 0.2 * (a @ h + np.tanh(w @ h + params.w_x.T @ x + params.b))


CASE = Case(LipschitzRNN(4, epsilon=0.2, beta_a=0.7, beta_w=0.4, gamma_a=0.05, gamma_w=0.3), lipschitz_rnn)


def test_without_a_linear_part_it_is_an_antisymmetric_network():
    """With a skew-symmetric W and A = 0."""
    both = {"epsilon": 0.2}
    cell = LipschitzRNN(4, beta_a=1, beta_w=1, gamma_a=0, gamma_w=0.05, **both)
    antisymmetric = jaxrnn.AntisymmetricRNN(4, gamma=0.05, **both)
    params = antisymmetric.init(jax.random.key(0), INPUT)
    m = np.concatenate([np.eye(4), params.w_h], axis=1)  # the skew-symmetric part of the identity is zero
    xs = draw(6, INPUT)
    expected = unroll(antisymmetric, params, xs)[1]
    found = unroll(cell, jaxrnn.cells.LipschitzRNNParams(params.w_x, m, params.b), xs)[1]
    np.testing.assert_allclose(found, expected, rtol=1e-12)
