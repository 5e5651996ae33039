"""`Native` equals `Scan` in value and gradient, for every cell it runs; it refuses the others by name."""

import pytest

import jaxrnn
from jaxrnn.loops import Native, Scan
from tests.support.cases import NATIVE_LOOPS, cases
from tests.support.comparisons import assert_close
from tests.support.loops import LENGTHS, RESETS, value_and_gradients
from tests.support.native import REFUSED, arguments, input_size_of
from tests.support.tiers import slow_but

pytest.importorskip("llvmlite")

RUN = [name for name in cases() if name not in REFUSED]
COMBINATIONS = [(0, 0, False), (0, 1, True), (1, 0, True), (1, 1, False)]
# Lengths and resets are handled around a cell's step, in the same way for all cells.
EVERYTHING_AT_ONCE = [(1, 1, True)]
EVERY_COMBINATION = ["LSTM", "GRU", "MLSTM", "SelectiveSSM", "Zoneout"]


@pytest.mark.parametrize("name", slow_but(RUN, EVERY_COMBINATION))
def test_equals_scan(name):
    case = cases()[name]
    args = arguments(case.cell, input_size_of(case))
    for lengths, resets, reverse in COMBINATIONS if name in EVERY_COMBINATION else EVERYTHING_AT_ONCE:
        how = {"reverse": reverse}
        keys = (None, LENGTHS[lengths], RESETS[resets])
        loop = NATIVE_LOOPS["native-checkpoint" if reverse and resets else "native"]
        found, expected = (value_and_gradients(case.cell, which, args, *keys, **how) for which in (loop, Scan()))
        assert_close(found, expected, rtol=2e-4)


@pytest.mark.parametrize("name", REFUSED)
def test_refuses_by_name(name):
    case = cases()[name]
    args = arguments(case.cell, input_size_of(case))
    with pytest.raises(TypeError, match=rf"Native cannot run .*{REFUSED[name]} of {name}.*loop=jaxrnn.loops.Deferred"):
        jaxrnn.unroll(case.cell, *args, loop=Native())


def test_most_cells_run():
    assert len([name for name in RUN if hasattr(jaxrnn.cells, name)]) >= 80
