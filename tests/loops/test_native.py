"""`Native` equals `Scan` in value and gradient, for every cell it runs; it refuses the others by name."""

import jax
import jax.numpy as jnp
import pytest

import jaxrnn
from jaxrnn.loops import Native, Scan
from tests.support.cases import NATIVE_LOOPS, cases
from tests.support.comparisons import assert_close
from tests.support.inputs import INPUT, draw_inputs, draw_params, draw_state
from tests.support.loops import BATCH, LENGTHS, RESETS, TIME, value_and_gradients
from tests.support.tiers import slow_but

pytest.importorskip("llvmlite")

REFUSED = {  # cells that it cannot run, and the operation that their step needs
    "ConvGRU": "conv_general_dilated",
    "ConvLSTM": "conv_general_dilated",
    "HGRN": "complex64",
    "LRU": "complex64",
    "ONLSTM": "cumsum",
    "PeepholeConvLSTM": "conv_general_dilated",
    "Retention": "complex64",
    "S5": "complex64",
    "URNN": "complex64",
}
RUN = [name for name in cases() if name not in REFUSED]
COMBINATIONS = [(0, 0, False), (0, 1, True), (1, 0, True), (1, 1, False)]


def input_size_of(case):
    return getattr(case.reference, "input_size", INPUT)


def single(tree):
    return jax.tree.map(lambda x: jnp.asarray(x, jnp.float32) if jnp.issubdtype(x.dtype, jnp.floating) else x, tree)


def arguments(cell, input_size, batch=BATCH, time=TIME):
    params = draw_params(cell, input_size=input_size)
    return single((params, draw_inputs(input_size, time, batch), draw_state(cell, params, (batch,))))


@pytest.mark.parametrize("name", slow_but(RUN, ["LSTM", "GRU", "MLSTM", "SelectiveSSM", "Zoneout"]))
def test_equals_scan(name):
    case = cases()[name]
    args = arguments(case.cell, input_size_of(case))
    for lengths, resets, reverse in COMBINATIONS:
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
