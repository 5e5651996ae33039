"""`AssociativeScan`: all steps of a linear cell at once give the same results as one after the other."""

import jax
import numpy as np
import pytest

import jaxrnn
from jaxrnn.loops import AssociativeScan
from tests.support.cases import LINEAR_LOOPS
from tests.support.inputs import INPUT, draw, draw_params
from tests.support.loops import BATCH, TIME, compare

pytestmark = pytest.mark.usefixtures("x64", "quick")


@pytest.mark.parametrize("loop", LINEAR_LOOPS.values(), ids=LINEAR_LOOPS)
def test_equals_scan_both_ways(loop):
    for reverse in (False, True):
        compare(jaxrnn.LRU(4, 3), loop, key=None, lengths=None, resets=None, reverse=reverse)


def test_no_steps_and_none_to_mask():
    cell = jaxrnn.MinGRU(4)
    compare(cell, AssociativeScan(), key=None, lengths=None, resets=None, reverse=False)
    state, ys = jaxrnn.unroll(cell, draw_params(cell), draw(0, BATCH, INPUT), loop=AssociativeScan())
    assert ys.shape == (0, BATCH, 4)
    assert not np.asarray(state.h).any()


def test_depth_is_logarithmic():
    cell = jaxrnn.MinGRU(4)
    run = jax.make_jaxpr(lambda p, xs: jaxrnn.unroll(cell, p, xs, loop=AssociativeScan())[1])
    assert "scan" not in str(run(draw_params(cell), draw(TIME, BATCH, INPUT))).replace("associative_scan", "")


def test_errors():
    cell = jaxrnn.GRU(4)
    with pytest.raises(TypeError, match=r"AssociativeScan runs cells that are linear .* loop=jaxrnn\.loops\.Deferred"):
        jaxrnn.unroll(cell, draw_params(cell), draw(TIME, INPUT), loop=AssociativeScan())
    with pytest.raises(ValueError, match="AssociativeScan's chunk must be a positive integer, but it is 0"):
        AssociativeScan(chunk=0)
