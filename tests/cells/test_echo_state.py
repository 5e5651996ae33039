"""EchoState: its equations in NumPy and its own tests."""

import jax
import numpy as np
import pytest

import jaxrnn
from tests.support.comparisons import to_numpy
from tests.support.inputs import INPUT
from tests.support.references import Case, of_hidden

pytestmark = pytest.mark.usefixtures("x64", "quick")


@of_hidden(4)
def echo_state(params, h, x):
    """Jaeger et al. 2007, a leaky reservoir with a bias as a constant input; the leak is 0.3."""
    return (1 - 0.3) * h + 0.3 * np.tanh(params.w_x.T @ x + params.w_h.T @ h + params.b)


CASE = Case(jaxrnn.EchoState(4, leak=0.3, connectivity=0.8), echo_state, frozen=("w_x", "w_h", "b"))


@pytest.mark.parametrize("connectivity", [0.1, 1.0])
def test_a_reservoir_has_the_spectral_radius_and_the_connectivity_asked_for(connectivity):
    cell = jaxrnn.EchoState(100, spectral_radius=0.7, connectivity=connectivity, input_scale=0.2)
    params = to_numpy(cell.init(jax.random.key(0), INPUT))
    assert np.abs(np.linalg.eigvals(params.w_h)).max() == pytest.approx(0.7, rel=1e-4)
    assert (params.w_h != 0).mean() == pytest.approx(connectivity, abs=0.02)
    assert 0.15 < np.abs(params.w_x).max() <= 0.2


def test_a_reservoir_without_connections_is_finite():
    params = jaxrnn.EchoState(4, connectivity=0.0).init(jax.random.key(0), INPUT)
    np.testing.assert_array_equal(params.w_h, np.zeros((4, 4)))
