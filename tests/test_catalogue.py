"""Every cell of the catalogue against its NumPy reference, the contract, and each loop against `Scan`."""

import catalogue
import jax
import numpy as np
import pytest
import references
from tables import CATALOGUE, VARIANTS, draw, draw_inputs, draw_params, draw_state, to_numpy
from test_loops import BATCH, TIME, compare

import jaxrnn
from jaxrnn.loops import Deferred
from jaxrnn.testing import check_cell

pytestmark = pytest.mark.usefixtures("x64", "quick")

# The default loop as it is, and in blocks with checkpoints. How often `Scan` unrolls has nothing to do with the cell:
# test_loops.py tries each option, and `check_cell` each cell with checkpoints.
EVERY_LOOP = (Deferred(), Deferred(checkpoint_every=2, block=3))

CASES = CATALOGUE | VARIANTS
over_cells = pytest.mark.parametrize("name", CASES)


@over_cells
def test_value_equals_the_reference(name):
    cell, reference = CASES[name]
    params = draw_params(cell, input_size=reference.input_size)
    xs, state = draw_inputs(reference.input_size, TIME, BATCH), draw_state(cell, params, (BATCH,))
    last, ys = jaxrnn.unroll(cell, params, xs, state)
    expected_last, expected_ys = references.run(reference, to_numpy(params), xs, to_numpy(tuple(state)))
    np.testing.assert_allclose(ys, expected_ys, rtol=1e-12, atol=1e-14)
    for leaf, expected in zip(last, expected_last, strict=True):
        leaf, expected = (np.reshape(x, (BATCH, -1)) for x in (leaf, expected))
        np.testing.assert_allclose(leaf, expected, rtol=1e-12, atol=1e-14)
    zero = jaxrnn.unroll(cell, params, xs)[1]
    np.testing.assert_allclose(zero, references.run(reference, to_numpy(params), xs)[1], rtol=1e-12, atol=1e-14)


@over_cells
def test_check_cell(name):
    cell, reference = CASES[name]
    check_cell(cell, reference.input_size, rtol=1e-9, frozen=catalogue.FROZEN.get(name, ()))


@over_cells
def test_every_loop_equals_scan(name):
    cell, reference = CASES[name]
    how = {"lengths": np.array([TIME, 0, 4]), "resets": draw(TIME, BATCH) > 0.7, "reverse": True}
    for loop in EVERY_LOOP:
        compare(cell, loop, key=jax.random.key(1), input_size=reference.input_size, **how)
