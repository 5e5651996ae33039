"""Messages of the errors that layers raise."""

from dataclasses import dataclass

import jax
import numpy as np
import pytest
from jax.sharding import Mesh, PartitionSpec

import jaxrnn
from jaxrnn import GRU, LSTM, Bidirectional, Dense, Dropout, Embedding, Residual, Stack, unroll

KEY = jax.random.key(0)
XS = np.zeros((5, 2, 3), np.float32)
SYMBOLS = np.zeros((5, 2), np.int32)


def run(layer, *, xs=XS, **how):
    return unroll(layer, layer.init(KEY, 3), xs, **how)


@dataclass(frozen=True)
class Pair(jaxrnn.RecurrentDropout):
    """A cell with two outputs."""

    def readout(self, params, state, z):
        return state.h, state.h


def run_given(layer, *params):
    """Runs a layer without its `init`, which refuses outputs of several arrays first."""
    return unroll(layer, params if len(params) > 1 else params[0], XS)


def run_slices_of_sharded_time():
    loop, layer = jaxrnn.loops.AssociativeScan(axis_name="time"), jaxrnn.Sliced(jaxrnn.MinGRU(4), slices=2)
    mesh, time = Mesh(jax.devices()[:1], ("time",)), PartitionSpec("time")
    jax.shard_map(lambda xs: run(layer, xs=xs, loop=loop)[1], mesh=mesh, in_specs=time, out_specs=time)(XS)


PAIR = Pair(GRU(3), rate=0.0)
P_PAIR = PAIR.init(KEY, 3)

ERRORS = {
    "size, a float": (
        TypeError,
        r"Dense's size must be a positive integer, but it is 4\.0$",
        lambda: Dense(4.0),
    ),
    "rate, one": (
        ValueError,
        "Dropout's rate must be from 0 to below 1, but it is 1",
        lambda: Dropout(1),
    ),
    "rate, NaN": (
        ValueError,
        "Dropout's rate must be",
        lambda: Dropout(float("nan")),
    ),
    "no layers": (
        TypeError,
        "Stack's layers must be one or more jaxrnn layers, but there is none$",
        Stack,
    ),
    "layers, a list": (
        TypeError,
        r"Stack's layers must be jaxrnn layers, but one is \[LSTM",
        lambda: Stack([LSTM(4)]),
    ),
    "layers, a class": (
        TypeError,
        r"Stack's layers must be jaxrnn layers, but one is <class .*: did you mean LSTM\(\.\.\.\)\?$",
        lambda: Stack(LSTM),
    ),
    "layers, a loop": (
        TypeError,
        r"Stack's layers must be jaxrnn layers, but one is Scan\(",
        lambda: Stack(jaxrnn.loops.Scan()),
    ),
    "activation, a layer": (
        TypeError,
        r"Activation's function must be a function, but it is Dense\(size=2\)$",
        lambda: jaxrnn.Activation(Dense(2)),
    ),
    "activation of symbols": (
        TypeError,
        r"Activation\(function=tanh\) applies a function to its input, so it needs numbers, not symbols",
        lambda: run(jaxrnn.Activation(jax.numpy.tanh), xs=SYMBOLS),
    ),
    "calling a layer with a state": (
        TypeError,
        r"only a layer without a state can be called without one, but Stack\(LSTM.* has one: call jaxrnn.step\(",
        lambda: Stack(LSTM(4), Dense(2))(Stack(LSTM(4), Dense(2)).init(KEY, 3), XS[0]),
    ),
    "state of a layer that is not there": (
        ValueError,
        "Stack has GRU.* 0 times: name it by its position$",
        lambda: Stack(LSTM(4)).state_of((0,), GRU(4)),
    ),
    "state of one of two equal layers": (
        ValueError,
        "Stack has LSTM.* 2 times: name it by its position$",
        lambda: Stack(LSTM(4), LSTM(4)).state_of((0, 0), LSTM(4)),
    ),
    "state of a layer, no position": (
        ValueError,
        "a position must be below 1, the number of layers, but it is 1$",
        lambda: Stack(LSTM(4)).state_of((0,), 1),
    ),
    "new state, structure": (
        TypeError,
        r"the state of GRU\(.*\) must have the structure of GRUState\(h=\(4,\)\), not of \(3,\)$",
        lambda: Stack(GRU(4)).replace_state((jaxrnn.cells.GRUState(np.zeros(4)),), {0: np.zeros(3)}),
    ),
    "new state, shapes": (
        ValueError,
        r"the state of GRU\(.*\) must have the shapes GRUState\(h=\(4,\)\), not GRUState\(h=\(3,\)\)$",
        lambda: Stack(GRU(4)).replace_state(
            (jaxrnn.cells.GRUState(np.zeros(4)),), {0: jaxrnn.cells.GRUState(np.zeros(3))}
        ),
    ),
    "layer of a wrapper": (
        TypeError,
        "Residual's layer must be a jaxrnn layer, but it is 3$",
        lambda: Residual(3),
    ),
    "layer of two": (
        TypeError,
        r"Bidirectional's backward must be a jaxrnn layer or None, .*: did you mean LSTM\(\.\.\.\)\?$",
        lambda: Bidirectional(LSTM(4), backward=LSTM),
    ),
    "residual of symbols": (
        TypeError,
        r"Residual\(.*\) passes its input on, so it needs numbers, not symbols",
        lambda: run(Residual(LSTM(3)), xs=SYMBOLS),
    ),
    "highway of symbols": (
        TypeError,
        "passes its input on",
        lambda: run(jaxrnn.Highway(LSTM(3)), xs=SYMBOLS),
    ),
    "dense connections of symbols": (
        TypeError,
        "passes its input on",
        lambda: run(jaxrnn.DenselyConnected(LSTM(3)), xs=SYMBOLS),
    ),
    "dropout of symbols": (
        TypeError,
        r"Dropout\(rate=0\.5, shared=False\) drops parts of its input, .* put an Embedding before it",
        lambda: run(Stack(Dropout(0.5), Embedding(3)), xs=SYMBOLS),
    ),
    "window of symbols": (
        TypeError,
        r"Window\(width=2\) concatenates its last inputs, so it needs .* put an Embedding before it",
        lambda: run(jaxrnn.Window(2), xs=SYMBOLS),
    ),
    "window, other size": (
        ValueError,
        r"the input of Window\(width=2\) must have the input size of .* init with the size of your input",
        lambda: run(jaxrnn.Window(2), xs=XS[..., :2]),
    ),
    "window of images": (
        ValueError,
        r"^Window\(width=2\) reads .* axis, but its input size is \(4, 3, 2\): flatten the inputs first, or use a",
        lambda: jaxrnn.Window(2).init(KEY, (4, 3, 2)),
    ),
    "LSTM after images": (
        ValueError,
        r"^LSTM\(.*\) reads inputs with one feature axis, but its input size is \(4, 3, 2\): flatten the inputs",
        lambda: Stack(jaxrnn.ConvLSTM((4, 3), 2, 3), Dense(2), LSTM(4)).init(KEY, (4, 3, 1)),
    ),
    "LSTM in layers after images": (
        ValueError,
        r"^Residual\(.*\) reads inputs with one feature axis",
        lambda: jaxrnn.DenselyConnected(jaxrnn.ConvLSTM((4, 3), 2, 3), Residual(Stack(Dropout(0.1), GRU(4)))).init(
            KEY, (4, 3, 2)
        ),
    ),
    "window, none": (
        ValueError,
        "Window's width must be a positive integer, but it is 0$",
        lambda: jaxrnn.Window(0),
    ),
    "slices and resets": (
        ValueError,
        r"Sliced\(layer=GRU\(hidden_size=4, update_bias=0\.0\), .* give packed sequences as a batch",
        lambda: run(jaxrnn.Sliced(GRU(4), slices=2), resets=np.zeros((5, 2), bool)),
    ),
    "slices of sharded time": (
        TypeError,
        r"^Sliced\(.*\) cuts whole sequences and cannot run with time sharded over a mesh axis, 'time': give",
        run_slices_of_sharded_time,
    ),
    "loop with an axis": (
        ValueError,
        r"^Using's loop must have no axis_name, but it is AssociativeScan\(.*\): give axis_name to the loop of unroll",
        lambda: jaxrnn.Using(jaxrnn.MinGRU(4), jaxrnn.loops.AssociativeScan(axis_name="time")),
    ),
    "slices": (
        ValueError,
        "Sliced's slices must be an integer of at least 2, but it is 1$",
        lambda: jaxrnn.Sliced(GRU(4), slices=1),
    ),
    "levels": (
        TypeError,
        "Sliced's levels must be a positive integer, but it is True$",
        lambda: jaxrnn.Sliced(GRU(4), slices=2, levels=True),
    ),
    "output size, negative input": (
        ValueError,
        r"input_size must be a number of features or a tuple of sizes such as \(28, 28, 3\), but it is -1$",
        lambda: jaxrnn.layers.output_size(Dense(4), Dense(4).init(KEY, 3), -1),
    ),
    "residual sizes": (
        ValueError,
        r"Residual needs a layer with as many outputs as inputs, .* outputs: put a Dense\(4\) before it",
        lambda: run(Residual(LSTM(4))),
    ),
    "highway sizes": (
        ValueError,
        "Highway needs a layer with as many",
        lambda: run(jaxrnn.Highway(LSTM(4))),
    ),
    "two outputs, in a stack": (
        TypeError,
        r"^Stack's layer 2, Dense\(size=2\), cannot read the output of layer 1, Pair\(.*\), which is a tuple of 2 ",
        lambda: run(Stack(Dropout(0.1), PAIR, Dense(2))),
    ),
    "two outputs, in a stack with parameters from elsewhere": (
        TypeError,
        r"^Stack's layer 1, Dense\(size=2\), cannot read the output of layer 0, Pair\(.*\), which is a tuple of 2 ",
        lambda: run_given(Stack(PAIR, Dense(2)), P_PAIR, Dense(2).init(KEY, 3)),
    ),
    "two outputs, residual": (
        TypeError,
        r"^the output of Pair\(.*\) must be one array so that a layer can read it, but it is a tuple of 2 arrays(\n|$)",
        lambda: run(Residual(PAIR)),
    ),
    "two outputs, highway": (
        TypeError,
        r"^the output of Pair\(.*\) must be one array",
        lambda: run(jaxrnn.Highway(PAIR)),
    ),
    "two outputs, dense connections": (
        TypeError,
        r"^the output of Pair\(.*\) must be one array",
        lambda: run_given(jaxrnn.DenselyConnected(Dropout(0.1), PAIR), (), PAIR.init(KEY, 6)),
    ),
    "two outputs, both directions": (
        TypeError,
        r"^the output of Pair\(.*\) must be one array",
        lambda: run(Bidirectional(GRU(3), backward=PAIR)),
    ),
    "two outputs, slices": (
        TypeError,
        r"^the output of Pair\(.*\) must be one array",
        lambda: run(jaxrnn.Sliced(PAIR, slices=2)),
    ),
    "two outputs, output size": (
        TypeError,
        r"^the output of Pair\(.*\) must be one array",
        lambda: jaxrnn.layers.output_size(PAIR, P_PAIR, 3),
    ),
}


@pytest.mark.parametrize("name", ERRORS)
def test_error(name):
    kind, message, call = ERRORS[name]
    with pytest.raises(kind, match=message):
        call()


def test_a_stack_may_end_in_several_arrays_and_pass_them_to_a_layer_that_reads_them():
    def add(params, state, x):
        return state, x[0] + x[1]

    def no_state(params, batch_shape):
        return np.zeros((*batch_shape, 1))

    xs = np.ones((5, 2, 3), np.float32)
    assert jax.tree.structure(Stack(Dropout(0.1), PAIR).init(KEY, 3)) == jax.tree.structure(((), P_PAIR))
    _, expected = unroll(GRU(3), P_PAIR, xs)
    params = (), P_PAIR
    _, (one, other) = unroll(Stack(Dropout(0.1), PAIR), params, xs)
    np.testing.assert_array_equal(one, expected)
    np.testing.assert_array_equal(other, expected)
    _, ys = unroll(Stack(PAIR, jaxrnn.adopt(add, no_state)), (P_PAIR, ()), xs)
    np.testing.assert_array_equal(ys, 2 * expected)
