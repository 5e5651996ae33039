"""DeltaNet and GatedDeltaNet: cells that normalize their keys."""

import jax
import numpy as np
import pytest

import jaxrnn
from tests.support.inputs import INPUT, draw_params

pytestmark = pytest.mark.usefixtures("x64", "quick")


@pytest.mark.parametrize("cell", [jaxrnn.DeltaNet(4, num_heads=2), jaxrnn.GatedDeltaNet(4, num_heads=2)], ids=repr)
def test_gradients_are_finite_for_inputs_of_zeros(cell):
    """The keys of such inputs have no direction."""
    params = draw_params(cell)
    grads = jax.grad(lambda params, x: cell.project(params, x).k.sum(), (0, 1))(params, np.zeros(INPUT))
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(grads))
