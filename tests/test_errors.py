"""Messages of errors. The last tests fail if a message or an argument of a layer has no test.

The messages of cells, layers and wrappers are in their folders; rooms such as convert have theirs in their own files.
"""

import dataclasses
import math
from pathlib import Path

import jax
import numpy as np
import pytest
from jax.sharding import Mesh, PartitionSpec

import jaxrnn
from jaxrnn import LSTM, Bidirectional, loops, unroll
from tests import test_diagnosis
from tests.cells import test_errors as test_cells
from tests.layers import test_errors as test_layers
from tests.support.cases import cases, examples
from tests.support.messages import raises, untested
from tests.wrappers import test_errors as test_wrappers

KEY = jax.random.key(0)
XS = np.zeros((5, 2, 3), np.float32)
SYMBOLS = np.zeros((5, 2), np.int32)
DENSE = jaxrnn.layers.DenseParams(np.ones((3, 4), np.float32), np.ones(4, np.float32))


def run(layer, *, xs=XS, **how):
    return unroll(layer, layer.init(KEY, 3), xs, **how)


def run_lstm(xs=XS, **how):
    return run(LSTM(4), xs=xs, **how)


def run_sharded(layer, run=unroll, loop=loops.AssociativeScan(axis_name="time"), **how):
    """Runs a layer with time sharded over a mesh axis of one device."""

    def run_part(xs):
        return run(layer, layer.init(KEY, 3), xs, loop=loop, **how)[1]

    time = PartitionSpec("time")
    return jax.shard_map(run_part, mesh=Mesh(jax.devices()[:1], ("time",)), in_specs=time, out_specs=time)(XS)


def state_of(*shape):
    return jaxrnn.cells.LSTMState(np.zeros(shape), np.zeros(shape))


@dataclasses.dataclass(frozen=True)
class LastStateOnly(jaxrnn.Layer):
    def init(self, key, input_size):
        return ()

    def initial_state(self, params, batch_shape=(), dtype=None):
        return {"count": np.zeros(batch_shape)}

    def run(self, params, xs, state, key, plan):
        return {"count": state["count"] + len(xs)}, xs


def states_of_a_stack():
    layer = jaxrnn.Stack(LSTM(4), LastStateOnly())
    return jaxrnn.states_over_time(layer, layer.init(KEY, 3), XS)


def generate(layer=LSTM(3), prompt=XS, **how):
    return jaxrnn.generate(layer, layer.init(KEY, 3), prompt, **({"steps": 4} | how))


class WithoutRead(jaxrnn.DeltaNet):
    def update(self, params, z):
        return super().update(params, z)._replace(read=None, erase=z.k)


class Imaginary(jaxrnn.Elman):
    def step(self, params, state, z):
        return state._replace(h=1j * state.h + z)


ERRORS = {
    "factors of a MatrixCell": (
        ValueError,
        "WithoutRead.update must return read with erase, but it returns erase without read",
        lambda: run(WithoutRead(4)),
    ),
    "shift of a MatrixCell": (
        TypeError,
        "^DeltaNet must define shift and passed_on, because its shifts is True$",
        lambda: jaxrnn.MatrixCell.shift(jaxrnn.DeltaNet(4), XS, XS),
    ),
    "what a MatrixCell passes on": (
        TypeError,
        "^DeltaNet must define shift and passed_on, because its shifts is True$",
        lambda: jaxrnn.MatrixCell.passed_on(jaxrnn.DeltaNet(4), XS),
    ),
    "cross_entropy, params": (
        TypeError,
        r"params must be those of a Dense layer, with fields w and b, but they are \(\)$",
        lambda: jaxrnn.cross_entropy((), XS, SYMBOLS),
    ),
    "cross_entropy, shapes of params": (
        ValueError,
        r"params must have w \[input, size\] and b \[size\], but their shapes are \(3, \d+\) and \(2,\)$",
        lambda: jaxrnn.cross_entropy(DENSE._replace(b=np.ones(2)), XS, SYMBOLS),
    ),
    "cross_entropy, labels of a kind": (
        TypeError,
        "labels must be integers, but their dtype is float32$",
        lambda: jaxrnn.cross_entropy(DENSE, XS, XS[..., 0]),
    ),
    "cross_entropy, input size": (
        ValueError,
        r"xs must have the shape \[\*batch, 3\], for these parameters, but it is \(5, 2\)$",
        lambda: jaxrnn.cross_entropy(DENSE, XS[..., 0], SYMBOLS),
    ),
    "cross_entropy, inputs of a kind": (
        TypeError,
        "xs must be real numbers, the inputs of the dense layer, but their dtype is int32$",
        lambda: jaxrnn.cross_entropy(DENSE, SYMBOLS, SYMBOLS),
    ),
    "cross_entropy, shape of labels": (
        ValueError,
        r"labels must have the shape \(5, 2\), the batch axes of xs, but it is \(5,\)$",
        lambda: jaxrnn.cross_entropy(DENSE, XS, SYMBOLS[:, 0]),
    ),
    "cross_entropy, shape of weights": (
        ValueError,
        r"weights must have the shape \(5, 2\), that of labels, but it is \(2,\)$",
        lambda: jaxrnn.cross_entropy(DENSE, XS, SYMBOLS, np.ones(2)),
    ),
    "cross_entropy, complex weights": (
        TypeError,
        "weights must be real numbers or booleans, but their dtype is complex64$",
        lambda: jaxrnn.cross_entropy(DENSE, XS, SYMBOLS, np.full((5, 2), 1j)),
    ),
    "cross_entropy, labels of text": (
        TypeError,
        "labels must be an array of numbers, but its dtype is <U1: cast it$",
        lambda: jaxrnn.cross_entropy(DENSE, XS, np.full((5, 2), "a")),
    ),
    "generate, both directions": (
        TypeError,
        r"generate needs a causal layer, but Bidirectional\(.*\) reads the future: call unroll",
        lambda: generate(Bidirectional(LSTM(3))),
    ),
    "generate, no layer": (
        TypeError,
        "layer must be a jaxrnn layer, but it is 3$",
        lambda: jaxrnn.generate(3, None, XS, steps=1),
    ),
    "generate, no steps": (
        ValueError,
        "steps must be a positive integer, but it is 0: it cannot be traced$",
        lambda: generate(steps=0),
    ),
    "generate, steps of a kind": (
        TypeError,
        r"steps must be a positive integer, but it is 2\.0: it cannot be traced$",
        lambda: generate(steps=2.0),
    ),
    "generate, feed": (
        TypeError,
        "feed must be a function or None, but it is 3$",
        lambda: generate(feed=3),
    ),
    "generate, stop": (
        TypeError,
        "stop must be a function or None, but it is 4$",
        lambda: generate(stop=4),
    ),
    "generate, no prompt": (
        ValueError,
        "prompt must have at least one step, but its time axis is empty: give the first input$",
        lambda: generate(prompt=XS[:0]),
    ),
    "generate, an empty prompt": (
        ValueError,
        r"the lengths of prompts must be at least 1, but they are \[0, 3\]: give the first input$",
        lambda: generate(lengths=[0, 3]),
    ),
    "generate, outputs that are no inputs": (
        ValueError,
        r"feed must return what a step of the prompt is, numbers of shape \(2, 3\), but .* numbers of shape \(2, 4\)$",
        lambda: generate(LSTM(4)),
    ),
    "generate, symbols": (
        ValueError,
        r"feed must return what a step of the prompt is, numbers .*, but it returns symbols of shape \(2,\)$",
        lambda: generate(feed=lambda y: y.argmax(-1)),
    ),
    "generate, stop of features": (
        ValueError,
        r"stop must return booleans of the batch shape \(2,\), but it returns bool\(2, 3\)$",
        lambda: generate(stop=lambda x: x > 0),
    ),
    "layer, a class": (
        TypeError,
        r"layer must be .* <class '.*LSTM'>: did you mean LSTM\(\.\.\.\)\?",
        lambda: unroll(LSTM, None, XS),
    ),
    "layer, a stranger": (
        TypeError,
        "layer must be a jaxrnn layer, but it is 3$",
        lambda: unroll(3, None, XS),
    ),
    "layer, after its parameters": (
        TypeError,
        "^layer must be a jaxrnn layer, but it is of the type LSTMParams$",
        lambda: unroll(LSTM(4).init(jax.random.key(0), 3), LSTM(4), XS),
    ),
    "states of a layer without a loop": (
        TypeError,
        r"^states_over_time needs .* LastStateOnly\(\)\) returns state\[1\]\['count'\] of shape \(2,\) instead of",
        states_of_a_stack,
    ),
    "loop, a class": (
        TypeError,
        r"loop must be a loop such as jaxrnn.loops.Scan\(\), but it is <class",
        lambda: run_lstm(loop=loops.Scan),
    ),
    "axis_name, outside shard_map": (
        ValueError,
        r"but 'time' is not: call unroll inside jax\.shard_map over a mesh with this axis$",
        lambda: run(jaxrnn.MinGRU(4), loop=loops.AssociativeScan(axis_name="time")),
    ),
    "axis_name, another": (
        ValueError,
        r"^axis_name of a loop must be an axis of the mesh of an enclosing jax\.shard_map, but 'batch' is not",
        lambda: run_sharded(jaxrnn.DeltaNet(4), loop=loops.Chunked(axis_name="batch")),
    ),
    "axis_name, a mask": (
        ValueError,
        "^a mask moves steps over time, which is sharded over the mesh axis 'time': remove the missing steps before",
        lambda: run_sharded(jaxrnn.MinGRU(4), mask=XS[..., 0] > 0),
    ),
    "axis_name, another loop": (
        TypeError,
        r"^Scan\(.*\) cannot run LSTM\(.*\) with time sharded over the mesh axis 'time': use jaxrnn\.loops\.",
        lambda: run_sharded(jaxrnn.Stack(jaxrnn.MinGRU(4), jaxrnn.Using(LSTM(4), loops.Scan()))),
    ),
    "axis_name, a cell that is not linear": (
        TypeError,
        r"^AssociativeScan runs .* but LSTM\(.*\) is not: of other cells, only a jaxrnn\.MatrixCell",
        lambda: run_sharded(LSTM(4)),
    ),
    "axis_name, a cell without a matrix": (
        TypeError,
        r"^Chunked runs cells .* but LSTM\(.*\) is not one: of other cells, only a jaxrnn\.LinearCell",
        lambda: run_sharded(LSTM(4), loop=loops.Chunked(axis_name="time")),
    ),
    "axis_name, states of a matrix cell": (
        TypeError,
        r"^Chunked does not compute the states .* Retention\(.*\): with time sharded, only AssociativeScan does",
        lambda: run_sharded(jaxrnn.Retention(4), jaxrnn.states_over_time, loop=loops.Chunked(axis_name="time")),
    ),
    "axis_name, lengths": (
        ValueError,
        "^lengths must be between 0 and the size of the time axis, 5, but they are",
        lambda: run_sharded(jaxrnn.MinGRU(4), lengths=np.array([5, 6])),
    ),
    "reverse": (
        TypeError,
        "reverse must be True or False, but it is 1: it cannot be traced",
        lambda: run_lstm(reverse=1),
    ),
    "key, a number": (
        TypeError,
        r"key must be a random key, such as jax.random.key\(0\), but it is 7",
        lambda: run_lstm(key=7),
    ),
    "key, raw, of another implementation": (
        TypeError,
        r"key must be a random key, such as jax.random.key\(0\), but it is an array uint32\[4\]",
        lambda: run_lstm(key=jax.random.key_data(jax.random.key(0, impl="rbg"))),
    ),
    "key, a list": (
        TypeError,
        r"key must be a random key, such as jax.random.key\(0\), but it is a list of 2",
        lambda: run_lstm(key=[KEY, KEY]),
    ),
    "key of a step": (
        TypeError,
        r"key must be a random key, such as jax.random.key\(0\), but it is 3",
        lambda: jaxrnn.step(jaxrnn.Dropout(0.5), (), (), XS[0], key=3),
    ),
    "key of a call": (
        TypeError,
        r"key must be a random key, such as jax.random.key\(0\), but it is 3",
        lambda: jaxrnn.Dropout(0.5)((), XS[0], key=3),
    ),
    "key of a call, one for all in an array": (
        ValueError,
        r"key must be one random key, or keys of the shape \[\*batch\] = \(2,\), .* its shape is \(1,\)",
        lambda: jaxrnn.Dropout(0.5)((), XS[0], key=jax.random.split(KEY, 1)),
    ),
    "key, several": (
        ValueError,
        r"key must be one random key, or keys of the shape \[\*batch\] = \(2,\), one for each sequence, but .* \(3,\)",
        lambda: run_lstm(key=jax.random.split(KEY, 3)),
    ),
    "key, several raw ones": (
        ValueError,
        r"key must be one random key, or keys of .* one for each sequence, but its shape is \(3,\)",
        lambda: run_lstm(key=jax.random.split(jax.random.PRNGKey(0), 3)),
    ),
    "xs, booleans": (
        TypeError,
        "xs must hold numbers or integer symbols, but its dtype is bool: cast it",
        lambda: run_lstm(XS > 0),
    ),
    "xs, no axes": (
        ValueError,
        r"xs must have the axes \[time, \*batch, 1 of features\], but its shape is \(3,\)",
        lambda: run_lstm(XS[0, 0]),
    ),
    "symbols, no axes": (
        ValueError,
        r"xs must have the axes \[time, \*batch\], but its shape is \(\)",
        lambda: run_lstm(np.int32(1)),
    ),
    "xs, disagreeing": (
        ValueError,
        r"all inputs must share one \[time, \*batch\], but they have \[\(5,\), \(5, 2\)\]",
        lambda: run_lstm((XS, XS[:, 0])),
    ),
    "xs, none": (
        TypeError,
        r"xs must be an array or a pytree of arrays, but it is \(\)",
        lambda: run_lstm(()),
    ),
    "xs, other size": (
        ValueError,
        r"must have the input size of the parameters, 3, but .* ends in \(2,\): call init",
        lambda: run_lstm(XS[..., :2]),
    ),
    "lengths, floats": (
        TypeError,
        "lengths must be integers, but their dtype is float32",
        lambda: run_lstm(lengths=np.ones(2, np.float32)),
    ),
    "lengths, shape": (
        ValueError,
        r"lengths must have the batch shape \(2,\) of xs, but their shape is \(5,\)",
        lambda: run_lstm(lengths=[1] * 5),
    ),
    "lengths, too long": (
        ValueError,
        r"lengths must be between 0 and the size of the time axis, 5, but they are \[6 0\]",
        lambda: run_lstm(lengths=[6, 0]),
    ),
    "lengths, negative": (
        ValueError,
        r"lengths must be between 0 and the size of the time axis, 5, but they are \[ *5 +-1\]",
        lambda: run_lstm(lengths=[5, -1]),
    ),
    "resets, integers": (
        TypeError,
        "resets must be booleans, but the dtype is int32",
        lambda: run_lstm(resets=SYMBOLS),
    ),
    "resets, shape": (
        ValueError,
        r"resets must have the shape \[time, \*batch\] = \(5, 2\), not \(5,\)",
        lambda: run_lstm(resets=np.zeros(5, bool)),
    ),
    "mask, integers": (
        TypeError,
        "mask must be booleans, but the dtype is int32",
        lambda: run_lstm(mask=SYMBOLS),
    ),
    "mask, shape": (
        ValueError,
        r"mask must have the shape \[time, \*batch\] = \(5, 2\), not \(2, 5\)",
        lambda: run_lstm(mask=np.ones((2, 5), bool)),
    ),
    "state, structure": (
        TypeError,
        r"^state .* have the structure of layer\..*, LSTMState\(h=\(2, 4\), c=\(2, 4\)\), but it is an array \(2, 4\)",
        lambda: run_lstm(state=np.zeros((2, 4))),
    ),
    "state, a tuple": (
        TypeError,
        r"LSTMState\(h=\(2, 4\), c=\(2, 4\)\), but it is \(\(2, 4\), \(2, 4\)\)",
        lambda: run_lstm(state=(np.zeros((2, 4)), np.zeros((2, 4)))),
    ),
    "state, a key": (
        TypeError,
        "but it is a random key: write key=key",
        lambda: run_lstm(state=jax.random.key(0)),
    ),
    "state, shapes": (
        ValueError,
        r"state must have the shapes \[\(2, 4\), \(2, 4\)\] .* but it has \[\(4,\), \(4,\)\]",
        lambda: run_lstm(state=state_of(4)),
    ),
    "state, kinds": (
        TypeError,
        r"state must hold numbers of the kinds \['float32', 'float32'\] of .* its dtypes are \['int32', 'float32'\]",
        lambda: run_lstm(state=jaxrnn.cells.LSTMState(np.zeros((2, 4), np.int32), np.zeros((2, 4), np.float32))),
    ),
    "state, real in place of complex": (
        TypeError,
        r"state must hold numbers of the kinds \['complex64'\] of .* but its dtypes are \['float32'\]: cast it",
        lambda: run(jaxrnn.LRU(4, 2), state=jaxrnn.cells.LRUState(np.zeros((2, 4), np.float32))),
    ),
    "state, another kind after a step": (
        TypeError,
        "an array of the state must not become complex64 in a step if it is float32 before: cast it in step, or return",
        lambda: run(Imaginary(4)),
    ),
    "parts of complex numbers": (
        TypeError,
        "the real and imaginary parts of complex numbers must be real, but one is complex128$",
        lambda: jaxrnn.ops.to_complex(XS, 1j * np.ones(3)),
    ),
    "xs, complex": (
        TypeError,
        r"^LSTM\(.*\) needs real inputs, but a dtype is complex64: give the parts of xs as features, jnp\.con",
        lambda: run_lstm(1j * XS),
    ),
    "params, complex": (
        TypeError,
        r"^LRU\(.*\) needs real parameters, but a dtype is complex64: give the real parts",
        lambda: unroll(jaxrnn.LRU(4, 2), jax.tree.map(lambda w: 1j * w, jaxrnn.LRU(4, 2).init(KEY, 3)), XS),
    ),
    "xs and params, complex": (
        TypeError,
        r"^LRU\(.*\) needs real inputs and real parameters, but a dtype is complex64: give the parts of xs as features",
        lambda: unroll(jaxrnn.LRU(4, 2), jax.tree.map(lambda w: 1j * w, jaxrnn.LRU(4, 2).init(KEY, 3)), 1j * XS),
    ),
    "state, complex": (
        TypeError,
        r"^LSTM\(.*\) needs a real state, but a dtype is complex64: give the real parts",
        lambda: run_lstm(state=jaxrnn.cells.LSTMState(1j * np.zeros((2, 4)), np.zeros((2, 4), np.float32))),
    ),
    "xs, text": (
        TypeError,
        "^xs must be an array of numbers, but its dtype is <U1: cast it$",
        lambda: run_lstm(np.full((5, 2, 3), "a")),
    ),
    "xs, times": (
        TypeError,
        r"^xs must be an array of numbers, but its dtype is timedelta64\[s\]: cast it$",
        lambda: run_lstm(np.zeros((5, 2, 3), "m8[s]")),
    ),
    "xs, wider than those of JAX": (
        TypeError,
        "^xs must be an array of numbers, but its dtype is complex256: cast it$",
        lambda: run_lstm(XS.astype(np.clongdouble)),
    ),
    "prompt, text": (
        TypeError,
        "^prompt must be an array of numbers, but its dtype is <U1: cast it$",
        lambda: generate(prompt=np.full((5, 2, 3), "a")),
    ),
    "params, objects": (
        TypeError,
        "^params must hold arrays of numbers, but the dtype of one is object: cast it$",
        lambda: unroll(LSTM(4), jax.tree.map(lambda w: np.asarray(w, object), LSTM(4).init(KEY, 3)), XS),
    ),
    "state of a step, text": (
        TypeError,
        "^state must hold arrays of numbers, but the dtype of one is <U1: cast it$",
        lambda: jaxrnn.step(LSTM(4), LSTM(4).init(KEY, 3), jaxrnn.cells.LSTMState(*[np.full((2, 4), "a")] * 2), XS[0]),
    ),
    "initial state, dtype": (
        TypeError,
        "^dtype must be that of real or complex numbers or None, but it is <class 'int'>$",
        lambda: LSTM(4).initial_state(LSTM(4).init(KEY, 3), dtype=int),
    ),
    "x of a call, text": (
        TypeError,
        "^x must be an array of numbers, but its dtype is <U1: cast it$",
        lambda: jaxrnn.Dense(4)(DENSE, np.full((2, 3), "a")),
    ),
    "x of a call, booleans": (
        TypeError,
        "^x must hold numbers or integer symbols, but its dtype is bool: cast it$",
        lambda: jaxrnn.Dense(4)(DENSE, XS[0] > 0),
    ),
    "last steps, no integers": (
        TypeError,
        "lengths must be integers, but their dtype is float",
        lambda: jaxrnn.at_last(XS, np.ones(2)),
    ),
    "last steps, shape": (
        ValueError,
        r"lengths must have the shape \[\*batch\], the leading axes of \(2, 3\), but it is \(5,\)$",
        lambda: jaxrnn.at_last(XS, np.ones(5, int)),
    ),
    "held steps, no booleans": (
        TypeError,
        "mask must be booleans, but the dtype is int32",
        lambda: jaxrnn.hold(XS, SYMBOLS),
    ),
    "held steps, one boolean": (
        ValueError,
        r"mask must have the shape \[time, \*batch\], but it is a single boolean$",
        lambda: jaxrnn.hold(XS, True),
    ),
    "held steps, shape": (
        ValueError,
        r"mask must have the shape \[time, \*batch\], the leading axes of \(5, 2, 3\), but it is \(2, 5\)$",
        lambda: jaxrnn.hold(XS, np.ones((2, 5), bool)),
    ),
    "step, not causal": (
        TypeError,
        r"step needs a causal layer, but Bidirectional\(.*\) reads the future: call unroll$",
        lambda: jaxrnn.step(Bidirectional(LSTM(4)), None, None, XS[0]),
    ),
    "dropped weights": (
        ValueError,
        "rate must be a number from 0 to below 1, but it is 1$",
        lambda: jaxrnn.weights.drop(KEY, {"w_h": XS}, 1),
    ),
    "weights, no such": (
        ValueError,
        "params must have arrays named w_q, but the names in them are b, w_h, w_x$",
        lambda: jaxrnn.weights.drop(KEY, LSTM(4).init(KEY, 3), 0.5, ("w_h", "w_q")),
    ),
    "scale of noise": (
        ValueError,
        "scale must be a finite number of at least 0, but it is -1$",
        lambda: jaxrnn.weights.noise(KEY, {"w_h": XS}, -1),
    ),
    "scale of noise, a word": (
        TypeError,
        "scale must be a finite number of at least 0, but it is 'a'$",
        lambda: jaxrnn.weights.noise(KEY, {"w_h": XS}, "a"),
    ),
    "names of weights": (
        TypeError,
        r"names must be strings, such as \('w_h',\), but they are \(1,\)$",
        lambda: jaxrnn.weights.drop(KEY, {"w_h": XS}, 0.5, (1,)),
    ),
    # initial values
    "uniform, a negative bound": (
        ValueError,
        "bound must be a finite number of at least 0, but it is -1$",
        lambda: jaxrnn.initializers.uniform(-1),
    ),
    "identity, an infinite scale": (
        ValueError,
        "scale must be a finite number, but it is inf$",
        lambda: jaxrnn.initializers.identity(float("inf")),
    ),
    "identity, no matrix": (
        ValueError,
        r"identity needs the shape of a matrix, \[rows, columns\], but it is \(3,\)$",
        lambda: jaxrnn.initializers.identity()(KEY, (3,)),
    ),
    "gates, no function": (
        TypeError,
        r"initializer must be a function \(key, shape\) -> array, but it is 3$",
        lambda: jaxrnn.initializers.gates(3, KEY, (2, 2), 2),
    ),
    "gates, none": (
        ValueError,
        "number must be a positive integer, but it is 0$",
        lambda: jaxrnn.initializers.gates(jaxrnn.initializers.uniform(1), KEY, (2, 2), 0),
    ),
    "gate's bias": (
        ValueError,
        r"bias must be a finite number or Chrono\(longest\), but it is inf$",
        lambda: jaxrnn.initializers.gate_biases(KEY, float("inf"), 3),
    ),
    "chrono": (
        ValueError,
        "Chrono's longest must be a finite number above 2, but it is 2$",
        lambda: jaxrnn.Chrono(2),
    ),
    "chrono, NaN": (
        ValueError,
        "Chrono's longest",
        lambda: jaxrnn.Chrono(float("nan")),
    ),
    "unroll of a loop": (
        ValueError,
        "Scan's unroll must be a positive .* is 0$",
        lambda: loops.Scan(unroll=0),
    ),
    "unroll, None": (
        TypeError,
        "Scan's unroll must be",
        lambda: loops.Scan(unroll=None),
    ),
    "checkpoints": (
        TypeError,
        r"Scan's checkpoint_every must be a positive integer, but it is 2\.0",
        lambda: loops.Scan(checkpoint_every=2.0),
    ),
    "forward mode": (
        TypeError,
        r"Deferred and Native have no forward-mode derivative: call unroll with loop=jaxrnn\.loops\.Scan",
        lambda: jax.jvp(lambda xs: run_lstm(xs, loop=loops.Deferred())[1], (XS,), (XS,)),
    ),
    "deferred": (
        ValueError,
        "Deferred's unroll must be a positive integer",
        lambda: loops.Deferred(unroll=-1),
    ),
}


@pytest.mark.parametrize("name", ERRORS)
def test_error(name):
    kind, message, call = ERRORS[name]
    with pytest.raises(kind, match=message):
        call()


def test_errors_that_only_tracing_could_see_do_not_hide_under_jit():
    with pytest.raises(ValueError, match="must have the batch shape"):
        jax.jit(lambda lengths: run_lstm(lengths=lengths))(np.zeros(3, int))
    with pytest.raises(TypeError, match="did you mean LSTM"):
        jax.eval_shape(lambda xs: unroll(LSTM, None, xs), XS)


def test_a_name_that_jaxrnn_does_not_have():
    with pytest.raises(AttributeError, match="module 'jaxrnn' has no attribute 'Recurrent'"):
        _ = jaxrnn.Recurrent


# ---- completeness ----------------------------------------------------------------------------------------------------

ROOT = Path(jaxrnn.__file__).parent
ELSEWHERE = {  # rooms and files whose messages are tested in a file of their own
    "__init__.py",
    "__main__.py",
    "_catalogue",
    "_adopt.py",
    "_check.py",
    "_diagnosis.py",
    "_flax",
    "_flax.py",
    "_linen_cells.py",
    "_names.py",
    "_nnx_cells.py",
    "_saving",
    "_serving",
    "_tensor_files.py",
    "_tracing",
    "associative_scan.py",
    "convert",
    "linen.py",
    "native",
    "newton",
    "nnx.py",
    "testing.py",
    "trees",
}


def test_every_message_is_tested():
    paths = [path for path in sorted(ROOT.rglob("*.py")) if not {path.name, path.parent.name} & ELSEWHERE]
    found = list(raises(paths))
    assert len(found) > 20
    assert all(piece for _, piece in found), "an error without a message"
    errors = [ERRORS, test_diagnosis.ERRORS, test_cells.ERRORS, test_layers.ERRORS, test_wrappers.ERRORS]
    missing = untested(found, (call for table in errors for _, _, call in table.values()))
    assert not missing, "errors without a test:\n" + "\n".join(missing)


def public_dataclasses():
    for module in (jaxrnn.cells, jaxrnn.layers, jaxrnn.wrappers, jaxrnn.loops, jaxrnn.trees):
        for name in module.__all__:
            if dataclasses.is_dataclass(cls := getattr(module, name)):
                yield cls


@pytest.mark.parametrize("cls", public_dataclasses(), ids=lambda cls: cls.__name__)
def test_only_required_arguments_are_taken_by_position(cls):
    fields = [field for field in dataclasses.fields(cls) if field.init]
    for field in fields:
        has_default = (field.default, field.default_factory) != (dataclasses.MISSING, dataclasses.MISSING)
        assert field.kw_only == has_default, f"{cls.__name__}'s {field.name}"
    if cls.__dataclass_params__.init:
        with pytest.raises(TypeError, match=f"^{cls.__name__} takes .* by position, but got "):
            cls(*range(1, len(fields) + 2))


LAYERS = {name: case.cell for name, case in cases().items()} | examples()
ARGUMENTS = [
    (name, field.name)
    for name, layer in LAYERS.items()
    for field in dataclasses.fields(layer)
    if field.name != "layers"  # given one by one, so that `replace` cannot replace them: tests/layers/test_errors.py
]


@pytest.mark.parametrize(("name", "argument"), ARGUMENTS, ids=str)
def test_every_argument_is_checked(name, argument):
    """A value of the wrong kind is a TypeError that names the class and the argument; so is NaN or -1, if a number."""
    layer = LAYERS[name]
    with pytest.raises(TypeError, match=rf"^{name}'s {argument} must be "):
        dataclasses.replace(layer, **{argument: object()})
    value = getattr(layer, argument)
    if isinstance(value, float):
        with pytest.raises(ValueError, match=rf"^{name}'s {argument} must be .* but it is nan"):
            dataclasses.replace(layer, **{argument: math.nan})
    elif isinstance(value, int) and not isinstance(value, bool):
        with pytest.raises(ValueError, match=rf"^{name}'s {argument} must be .* but it is -1"):
            dataclasses.replace(layer, **{argument: -1})
