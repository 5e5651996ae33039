"""LayerNormGRU: its equations in NumPy and its own tests."""

import jax.numpy as jnp
import numpy as np
import pytest

import jaxrnn
from tests.support.inputs import draw, draw_params
from tests.support.references import Case, of_hidden, sigmoid

pytestmark = pytest.mark.usefixtures("x64", "quick")


def standardized(a, epsilon):
    return (a - a.mean()) / np.sqrt(((a - a.mean()) ** 2).mean() + epsilon)


@of_hidden(4)
def layer_norm_gru(params, h, x):
    """Ba et al. 2016, supplementary material: one normalization over both gates, one for the candidate."""
    w, w_c = np.split(params.w_x.T, [8])
    u, u_c = np.split(params.w_h.T, [8])
    b, b_c = np.split(params.b, [8])
    gain_x, gain_xc = np.split(params.gain_x, [8])
    gain_h, gain_hc = np.split(params.gain_h, [8])
    z, r = np.split(gain_h * standardized(u @ h, 1e-6) + gain_x * standardized(w @ x, 1e-6) + b, 2)
    inner = gain_hc * standardized(u_c @ h, 1e-6) + params.b_a
    candidate = np.tanh(gain_xc * standardized(w_c @ x, 1e-6) + b_c + sigmoid(r) * inner)
    return (1 - sigmoid(z)) * h + sigmoid(z) * candidate


CASE = Case(jaxrnn.LayerNormGRU(4), layer_norm_gru)


def test_layer_norm_gru_does_not_see_the_scale_of_its_weights():
    cell = jaxrnn.LayerNormGRU(4, epsilon=0.0)
    params, xs = draw_params(cell), draw(5, 3)
    state = jaxrnn.cells.LayerNormGRUState(draw(4))
    scaled = params._replace(w_x=7 * params.w_x, w_h=params.w_h / 3)
    one, other = (jaxrnn.unroll(cell, p, xs, state)[1] for p in (params, scaled))
    np.testing.assert_allclose(one, other, rtol=1e-12)
    assert jnp.isfinite(jaxrnn.unroll(jaxrnn.LayerNormGRU(4), params, xs)[1]).all()  # from zeros
