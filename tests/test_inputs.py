"""What `unroll` accepts: symbols, dtypes, pytrees, sequences without steps, and layers that users write."""

from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxrnn
from jaxrnn import LSTM, Cell, unroll
from jaxrnn.ops import affine, tanh
from jaxrnn.testing import check_cell
from tests.support.cases import cases, examples, selected_cells, selected_layers
from tests.support.comparisons import assert_close
from tests.support.inputs import INPUT, draw, draw_params, draw_state
from tests.support.tiers import slow, slow_but

pytestmark = pytest.mark.usefixtures("x64", "quick")
CELLS = selected_cells()
ALL = {name: case.cell for name, case in cases().items()} | examples()
TIME, BATCH, SYMBOLS = 5, 2, 6

over_cells = pytest.mark.parametrize("name", slow_but(CELLS, ["LSTM", "LearnedInitialState", "Zoneout"]))
READS_SYMBOLS = [name for name, case in cases().items() if case.reads_symbols]
LAYERS_THAT_READ_SYMBOLS = ["Embedding", "Dense", "Stack", "Bidirectional", "Reversed", "Sliced", "Using"]
LAYERS_THAT_READ_NUMBERS = sorted(set(examples()) - set(LAYERS_THAT_READ_SYMBOLS))


def draw_symbols(*shape, number=SYMBOLS):
    return np.random.default_rng(0).integers(0, number, shape)


@partial(jax.jit, static_argnums=0)
def value_and_gradient(layer, params, xs):
    def loss(params):
        last, ys = unroll(layer, params, xs)
        return (ys**3).sum() + sum(leaf.sum().real for leaf in jax.tree.leaves(last)), (last, ys)

    return jax.value_and_grad(loss, has_aux=True)(params)


# ---- symbols ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name", slow_but([*READS_SYMBOLS, *LAYERS_THAT_READ_SYMBOLS], ["LSTM", "Embedding", "Dense", "Stack", "Sliced"])
)
def test_symbols_equal_their_one_hot_vectors(name):
    """In a batch as large as the input, where a lookup and a product could be confused."""
    layer, size = ALL[name], cases()[name].reference.input_size if name in cases() else SYMBOLS
    params, symbols = draw_params(layer, input_size=size), draw_symbols(TIME, size, number=size)
    assert_close(value_and_gradient(layer, params, symbols), value_and_gradient(layer, params, np.eye(size)[symbols]))


@pytest.mark.parametrize("name", LAYERS_THAT_READ_NUMBERS)
def test_other_layers_refuse_symbols_by_name(name):
    """Without a batch, in a batch as large as the input, and in a larger one."""
    layer = ALL[name]
    params = jax.eval_shape(lambda: layer.init(jax.random.key(0), INPUT))
    for batch_shape in ((), (INPUT,), (INPUT + 1,)):
        symbols = draw_symbols(TIME, *batch_shape, number=INPUT)
        with pytest.raises(TypeError, match=rf"^{name}\(.*\) .*, so it needs numbers, not symbols: "):
            jax.eval_shape(lambda params, symbols=symbols: unroll(layer, params, symbols), params)


@pytest.mark.parametrize("symbol", [SYMBOLS, SYMBOLS + 1, -1, -SYMBOLS, 2**31 - 1])
def test_a_symbol_out_of_range_gives_nan(symbol):
    params, symbols = draw_params(LSTM(4), input_size=SYMBOLS), draw_symbols(TIME, BATCH)
    expected = unroll(LSTM(4), params, symbols)[1]
    symbols[3, 0] = symbol
    ys = unroll(LSTM(4), params, symbols)[1]
    assert np.isnan(ys[3:, 0]).all()
    np.testing.assert_array_equal(ys[:3], expected[:3])
    np.testing.assert_array_equal(ys[:, 1], expected[:, 1])


@pytest.mark.parametrize("name", ["Embedding", "Dense"])
def test_a_symbol_out_of_range_gives_nan_in_a_layer_without_state(name):
    params = draw_params(ALL[name], input_size=SYMBOLS)
    _, ys = unroll(ALL[name], params, np.array([0, SYMBOLS, -1, 5]))
    np.testing.assert_array_equal(np.isnan(ys).all(axis=1), [False, True, True, False])
    np.testing.assert_array_equal(np.isnan(ys).any(axis=1), [False, True, True, False])


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.uint32, np.int64])
def test_symbols_of_every_integer_dtype(dtype):
    params = draw_params(LSTM(4), input_size=256)
    symbols = np.array([0, 127, 128, 200, 255])
    _, expected = unroll(LSTM(4), params, np.eye(256)[symbols])
    assert_close(unroll(LSTM(4), params, symbols.astype(dtype))[1], expected)


def test_small_dtypes_do_not_wrap_around():
    params = draw_params(LSTM(4), input_size=256)
    assert np.isnan(unroll(LSTM(4), params, np.array([-56], np.int8))[1]).all()  # not row 200
    params = draw_params(LSTM(4), input_size=200)
    assert np.isnan(unroll(LSTM(4), params, np.array([200], np.uint8))[1]).all()  # not row -56


def test_symbols_out_of_range_in_the_padding_do_not_matter():
    params, symbols = draw_params(LSTM(4), input_size=SYMBOLS), draw_symbols(TIME, BATCH)
    lengths = np.array([2, 5])
    expected = unroll(LSTM(4), params, symbols, lengths=lengths)
    symbols[2:, 0] = [-1, SYMBOLS, 99]
    jax.tree.map(np.testing.assert_array_equal, unroll(LSTM(4), params, symbols, lengths=lengths), expected)


def test_symbols_run_without_a_batch_and_step_by_step():
    params, symbols = draw_params(LSTM(4), input_size=SYMBOLS), draw_symbols(TIME)
    _, ys = unroll(LSTM(4), params, symbols)
    state = LSTM(4).initial_state(params)
    for symbol, expected in zip(symbols, ys, strict=True):
        state, y = jaxrnn.step(LSTM(4), params, state, symbol)
        np.testing.assert_allclose(y, expected, rtol=1e-12)


# ---- dtypes ----------------------------------------------------------------------------------------------------------


@over_cells
@pytest.mark.parametrize(
    ("params_dtype", "xs_dtype", "state_dtype", "ys_dtype"),
    [
        ("bfloat16", "bfloat16", "float32", "bfloat16"),
        ("float16", "float16", None, "float16"),
        ("float32", "bfloat16", "bfloat16", "float32"),
        ("bfloat16", "float32", None, "float32"),
        ("bfloat16", "int32", "float32", "bfloat16"),
        ("float32", "float64", None, "float64"),
    ],
)
def test_dtypes(name, params_dtype, xs_dtype, state_dtype, ys_dtype):
    cell = CELLS[name].cell
    xs_dtype = "bfloat16" if xs_dtype == "int32" and name not in READS_SYMBOLS else xs_dtype
    wide = draw_params(cell, input_size=SYMBOLS)
    params = jax.tree.map(lambda leaf: leaf.astype(params_dtype), wide)
    symbols = draw_symbols(TIME, BATCH)
    xs = jnp.asarray(symbols if xs_dtype == "int32" else np.eye(SYMBOLS)[symbols], xs_dtype)
    state = None if state_dtype is None else cell.initial_state(params, (BATCH,), state_dtype)
    last, ys = jax.eval_shape(partial(unroll, cell), params, xs, state)
    assert ys.dtype == ys_dtype
    assert {leaf.dtype for leaf in jax.tree.leaves(last)} == {jnp.dtype(state_dtype or params_dtype)}


def test_low_precision_is_near_the_high():
    cell = LSTM(8)
    params, xs = draw_params(cell), draw(20, BATCH, INPUT)
    _, expected = unroll(cell, params, xs)
    low, xs = jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.bfloat16), (params, xs))
    _, ys = unroll(cell, low, xs, cell.initial_state(low, (BATCH,), jnp.float32))
    assert np.abs(ys.astype(float) - expected).max() < 0.05


# ---- no steps --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("reverse", [slow(False), True], ids=["forward", "reverse"])
@pytest.mark.parametrize("name", slow_but(selected_layers(), ["LSTM", "LearnedInitialState", *examples()]))
def test_no_steps(name, reverse):
    layer = ALL[name]
    params = draw_params(layer)
    state = draw_state(layer, params, (BATCH,))
    size = unroll(layer, params, draw(1, INPUT))[1].shape[-1]
    how = {"lengths": np.zeros(BATCH, int), "reverse": reverse}
    how |= {} if name == "Sliced" else {"resets": np.zeros((0, BATCH), bool)}  # which has no place for them
    for arguments in ({}, how):
        last, ys = unroll(layer, params, np.zeros((0, BATCH, INPUT)), state, **arguments)
        assert ys.shape == (0, BATCH, size)
        jax.tree.map(np.testing.assert_array_equal, last, state)


# ---- layers that users write -----------------------------------------------------------------------------------------


class Inputs(NamedTuple):
    number: Any
    symbol: Any


@dataclass(frozen=True)
class Counting(Cell):
    """A state of nested dicts, one leaf of it an integer; inputs and outputs of several arrays."""

    hidden_size: int

    def init(self, key, input_size):
        keys = jax.random.split(key, 3)
        shapes = (input_size, self.hidden_size), (SYMBOLS, self.hidden_size), (self.hidden_size, self.hidden_size)
        return {n: jax.random.normal(k, shape) for n, k, shape in zip("xsh", keys, shapes, strict=True)}

    def initial_state(self, params, batch_shape=(), dtype=None):
        h = jnp.zeros((*batch_shape, self.hidden_size), params["h"].dtype if dtype is None else dtype)
        return {"memory": {"h": h}, "count": jnp.zeros(batch_shape, jnp.int32)}

    def project(self, params, x, key=None):
        return affine(x.number, params["x"]) + affine(x.symbol, params["s"])

    def step(self, params, state, z):
        h = tanh(z + state["memory"]["h"] @ params["h"])
        return {"memory": {"h": h}, "count": state["count"] + 1}

    def readout(self, params, state, z):
        return {"h": state["memory"]["h"], "count": state["count"]}


@pytest.mark.parametrize("loop", [jaxrnn.loops.Scan(), jaxrnn.loops.Scan(checkpoint_every=2), jaxrnn.loops.Deferred()])
def test_states_inputs_and_outputs_may_be_pytrees(loop):
    cell = Counting(4)
    params = cell.init(jax.random.key(0), INPUT)
    xs = Inputs(draw(TIME, BATCH, INPUT), draw_symbols(TIME, BATCH))
    lengths, resets = np.array([5, 3]), np.zeros((TIME, BATCH), bool)
    resets[2, 0] = True
    last, ys = unroll(cell, params, xs, lengths=lengths, resets=resets, loop=loop)
    np.testing.assert_array_equal(ys["count"], [[1, 1], [2, 2], [1, 3], [2, 0], [3, 0]])
    np.testing.assert_array_equal(last["count"], [3, 3])
    assert last["count"].dtype == np.int32

    h = np.zeros(4)
    for t in range(TIME):
        h = np.zeros(4) if t == 2 else h
        row = params["s"][xs.symbol[t, 0]]
        h = np.tanh(np.asarray(params["x"]).T @ xs.number[t, 0] + row + np.asarray(params["h"]).T @ h)
        np.testing.assert_allclose(ys["h"][t, 0], h, rtol=1e-12)

    state, y = jaxrnn.step(cell, params, cell.initial_state(params, (BATCH,)), Inputs(xs.number[0], xs.symbol[0]))
    np.testing.assert_allclose(y["h"], ys["h"][0], rtol=1e-12)
    np.testing.assert_array_equal(state["count"], [1, 1])


@dataclass(frozen=True)
class Grid(Cell):
    """Two feature axes: `h = tanh(x + W h)` on matrices."""

    hidden_size: int
    num_feature_axes = 2

    def init(self, key, input_size):
        return jax.random.normal(key, (self.hidden_size, self.hidden_size)) / 2

    def initial_state(self, params, batch_shape=(), dtype=None):
        dtype = params.dtype if dtype is None else dtype
        return jnp.zeros((*batch_shape, self.hidden_size, self.hidden_size), dtype)

    def project(self, params, x, key=None):
        return x

    def step(self, params, state, z):
        return tanh(z + params @ state)

    def readout(self, params, state, z):
        return state


def test_a_cell_may_have_several_feature_axes():
    check_cell(Grid(3), (3, 3), rtol=1e-9)
    params, xs = Grid(3).init(jax.random.key(0), (3, 3)), draw(TIME, BATCH, 3, 3)
    last, ys = unroll(Grid(3), params, xs, lengths=np.array([5, 2]), reverse=True)
    h = np.zeros((3, 3))
    for t in (1, 0):
        h = np.tanh(xs[t, 1] + np.asarray(params) @ h)
        np.testing.assert_allclose(ys[t, 1], h, rtol=1e-12)
    np.testing.assert_allclose(last[1], h, rtol=1e-12)
    assert not ys[2:, 1].any()
    wrapped = jaxrnn.RecurrentDropout(jaxrnn.Zoneout(Grid(3), rate=0.5), 0.5)
    _, ys = unroll(wrapped, params, xs, key=jax.random.key(0))
    assert ys.shape == xs.shape


def test_an_embedding_reads_integers_of_any_shape():
    """They cannot be features, even if their last axis has as many entries as there are symbols."""
    layer = jaxrnn.Stack(jaxrnn.Embedding(3), jaxrnn.GRU(2))
    params = layer.init(jax.random.key(0), 4)
    xs = jnp.arange(5 * 2 * 4).reshape(5, 2, 4) % 4
    found = jaxrnn.unroll(layer, params, xs)[1]
    expected = jaxrnn.unroll(layer, params, xs.reshape(5, 8))[1].reshape(5, 2, 4, 2)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)
