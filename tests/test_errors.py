"""Every error that jaxrnn raises, by its message; the last test fails when one is missing here."""

from pathlib import Path

import jax
import numpy as np
import pytest

import jaxrnn
from jaxrnn import GRU, LSTM, Bidirectional, Dense, Dropout, Embedding, Residual, Stack, Zoneout, loops, unroll
from tests.support.messages import raises, untested

KEY = jax.random.key(0)
XS = np.zeros((5, 2, 3), np.float32)
SYMBOLS = np.zeros((5, 2), np.int32)

CONV = jaxrnn.ConvLSTM((4, 3), 2, 3)


def run(layer, *, xs=XS, **how):
    return unroll(layer, layer.init(KEY, 3), xs, **how)


def run_lstm(xs=XS, **how):
    return run(LSTM(4), xs=xs, **how)


def state_of(*shape):
    return jaxrnn.cells.LSTMState(np.zeros(shape), np.zeros(shape))


ERRORS = {
    # unroll and step
    "layer, a class": (TypeError, r"layer must be .* <class '.*LSTM'>: did you mean LSTM\(\.\.\.\)\?",
                       lambda: unroll(LSTM, None, XS)),
    "layer, a stranger": (TypeError, "layer must be a jaxrnn layer, but it is 3$", lambda: unroll(3, None, XS)),
    "loop, a class": (TypeError, r"loop must be a loop such as jaxrnn.loops.Scan\(\), but it is <class",
                      lambda: run_lstm(loop=loops.Scan)),
    "reverse": (TypeError, "reverse must be True or False, but it is 1: it is not traced", lambda: run_lstm(reverse=1)),
    "key, a number": (TypeError, r"key must be one random key, such as jax.random.key\(0\), but it is 7",
                      lambda: run_lstm(key=7)),
    "key, several": (TypeError, "key must be one random key", lambda: run_lstm(key=jax.random.split(KEY))),
    "key, several raw ones": (TypeError, "key must be one random key",
                              lambda: run_lstm(key=jax.random.split(jax.random.PRNGKey(0)))),
    "xs, booleans": (TypeError, "xs must hold numbers or integer symbols, but its dtype is bool: cast it",
                     lambda: run_lstm(XS > 0)),
    "xs, no axes": (ValueError, r"xs must have the axes \[time, \*batch, 1 of features\], but its shape is \(3,\)",
                    lambda: run_lstm(XS[0, 0])),
    "symbols, no axes": (ValueError, r"xs must have the axes \[time, \*batch\], but its shape is \(\)",
                         lambda: run_lstm(np.int32(1))),
    "xs, disagreeing": (ValueError, r"all inputs must share one \[time, \*batch\], but they have \[\(5,\), \(5, 2\)\]",
                        lambda: run_lstm([XS, XS[:, 0]])),
    "xs, none": (ValueError, r"all inputs must share one \[time, \*batch\], but they have \[\]", lambda: run_lstm(())),
    "xs, other size": (ValueError, r"must have the input size of the parameters, 3, but .* ends in \(2,\): call init",
                       lambda: run_lstm(XS[..., :2])),
    "lengths, floats": (TypeError, "lengths must be integers, but their dtype is float32",
                        lambda: run_lstm(lengths=np.ones(2, np.float32))),
    "lengths, shape": (ValueError, r"lengths must have the batch shape \(2,\) of xs, but their shape is \(5,\)",
                       lambda: run_lstm(lengths=[1] * 5)),
    "lengths, too long": (ValueError, r"lengths must lie between 0 and the time axis' 5, but they are \[6 0\]",
                          lambda: run_lstm(lengths=[6, 0])),
    "lengths, negative": (ValueError, r"lengths must lie between 0 and the time axis' 5, but they are \[ *5 +-1\]",
                          lambda: run_lstm(lengths=[5, -1])),
    "resets, integers": (TypeError, "resets must be booleans, but their dtype is int32",
                         lambda: run_lstm(resets=SYMBOLS)),
    "resets, shape": (ValueError, r"resets must have the shape \[time, \*batch\] = \(5, 2\), not \(5,\)",
                      lambda: run_lstm(resets=np.zeros(5, bool))),
    "state, structure": (TypeError, r"state must have the structure of layer.initial_state\(params, \(2,\)\)",
                         lambda: run_lstm(state=np.zeros((2, 4)))),
    "state, shapes": (ValueError, r"state must have the shapes \[\(2, 4\), \(2, 4\)\] .* but it has \[\(4,\), \(4,\)\]",
                      lambda: run_lstm(state=state_of(4))),
    "step, not causal": (TypeError, r"step runs one step after the other, but Bidirectional\(.*\) reads the future",
                         lambda: jaxrnn.step(Bidirectional(LSTM(4)), None, None, XS[0])),
    # arguments of layers
    "size, zero": (ValueError, "LSTM's hidden_size must be a positive integer, but it is 0", lambda: LSTM(0)),
    "size, a float": (ValueError, r"Dense's size must be a positive integer, but it is 4\.0", lambda: Dense(4.0)),
    "size, a bool": (ValueError, "GRU's hidden_size must be a positive integer, but it is True", lambda: GRU(True)),
    "size, the second": (ValueError, "ProjectedLSTM's projection_size must be", lambda: jaxrnn.ProjectedLSTM(4, -1)),
    "rate, one": (ValueError, "Dropout's rate must be from 0 to below 1, but it is 1", lambda: Dropout(1)),
    "rate, negative": (ValueError, "RecurrentDropout's rate must be", lambda: jaxrnn.RecurrentDropout(GRU(2), -0.1)),
    "rate, NaN": (ValueError, "Dropout's rate must be", lambda: Dropout(float("nan"))),
    "rate, one of two": (ValueError, "Zoneout's rate must be from 0", lambda: Zoneout(LSTM(2), state_rate(0.1, 1.5))),
    "rate, structure": (ValueError, "Zoneout's rate must be one number or have the state's structure",
                        lambda: run(Zoneout(LSTM(4), (0.1, 0.2)))),
    "wraps a layer": (TypeError, r"Zoneout wraps a cell, but it was given Dense\(size=4\)", lambda: Zoneout(Dense(4))),
    "wraps a class": (TypeError, "LearnedInitialState wraps a cell, but", lambda: jaxrnn.LearnedInitialState(GRU)),
    "no layers": (TypeError, "Stack needs at least one layer", Stack),
    "layers, a list": (TypeError, r"Stack is made of jaxrnn layers, but it was given \[LSTM", lambda: Stack([LSTM(4)])),
    "layer of a wrapper": (TypeError, "Residual is made of jaxrnn layers, but it was given 3", lambda: Residual(3)),
    "layer of two": (TypeError, "Bidirectional is made of jaxrnn layers", lambda: Bidirectional(LSTM(4), LSTM)),
    "residual of symbols": (TypeError, r"Residual\(.*\) passes its input on, so it needs numbers, not symbols",
                            lambda: run(Residual(LSTM(3)), xs=SYMBOLS)),
    "highway of symbols": (TypeError, "passes its input on", lambda: run(jaxrnn.Highway(LSTM(3)), xs=SYMBOLS)),
    "dense connections of symbols": (TypeError, "passes its input on",
                                     lambda: run(jaxrnn.DenselyConnected(LSTM(3)), xs=SYMBOLS)),
    "dropout of symbols": (TypeError, r"Dropout\(.*\) needs numbers, but its input is of symbols: put it after",
                           lambda: run(Stack(Dropout(0.5), Embedding(3)), xs=SYMBOLS)),
    "window of symbols": (TypeError, r"Window\(width=2\) needs numbers, .* of symbols: put it after an Embedding$",
                          lambda: run(jaxrnn.Window(2), xs=SYMBOLS)),
    "window, other size": (ValueError, r"input of Window\(.*\) must have the size it was made for, 3, but it has 2",
                           lambda: run(jaxrnn.Window(2), xs=XS[..., :2])),
    "window, none": (ValueError, "Window's width must be a positive integer, but it is 0$", lambda: jaxrnn.Window(0)),
    "mogrifier of symbols": (TypeError, r"Mogrifier\(.*\) gates its input, so it needs numbers, not symbols: put",
                             lambda: run(jaxrnn.Mogrifier(LSTM(3)), xs=SYMBOLS)),
    "rounds": (ValueError, "Mogrifier's rounds must be a positive integer, but it is 0$",
               lambda: jaxrnn.Mogrifier(LSTM(4), 0)),
    "rounds, None": (ValueError, "Mogrifier's rounds must be", lambda: jaxrnn.Mogrifier(LSTM(4), None)),
    "rank": (ValueError, r"Mogrifier's rank must be a positive integer, but it is 2\.0$",
             lambda: jaxrnn.Mogrifier(LSTM(4), rank=2.0)),
    "hidden, a matrix": (TypeError, r"Multiplicative changes .* numbers \[\*batch, hidden\], but the state of Lin",
                         lambda: jaxrnn.Multiplicative(jaxrnn.LinearAttention(2, 2)).init(KEY, 3)),
    "hidden, complex": (TypeError, "Mogrifier changes the state's field h, or else its first",
                        lambda: jaxrnn.Mogrifier(jaxrnn.LRU(4, 4)).init(KEY, 3)),
    "output of the input": (TypeError, r"FastSlow makes the input of MLSTM.* inside its step, .* wrap another cell",
                            lambda: run(jaxrnn.FastSlow((jaxrnn.MLSTM(4), jaxrnn.MLSTM(4)), GRU(3)))),
    "one fast cell": (TypeError, r"FastSlow is made of a tuple of two or more .* given \(LSTM.*\) and GRU",
                      lambda: jaxrnn.FastSlow((LSTM(4),), GRU(4))),
    "fast cells, a list": (TypeError, "FastSlow is made of a tuple", lambda: jaxrnn.FastSlow([GRU(4)] * 2, GRU(4))),
    "slow, a layer": (TypeError, r"FastSlow is made .* and Dense\(", lambda: jaxrnn.FastSlow((GRU(4),) * 2, Dense(4))),
    "fast cells that differ": (ValueError, "the fast cells hand one state along, so theirs must be of one structure",
                               lambda: jaxrnn.FastSlow((GRU(4), GRU(5)), GRU(4)).init(KEY, 3)),
    "slices and resets": (ValueError, r"Sliced\(.*\) slices each sequence as a whole, without resets: give packed",
                          lambda: run(jaxrnn.Sliced(GRU(4), 2), resets=np.zeros((5, 2), bool))),
    "slices": (ValueError, "Sliced's slices must be an integer of at least 2, but it is 1$",
               lambda: jaxrnn.Sliced(GRU(4), 1)),
    "levels": (ValueError, "Sliced's levels must be an integer of at least 1, but it is True$",
               lambda: jaxrnn.Sliced(GRU(4), 2, True)),
    "dropped weights": (ValueError, "the rate at which weights are dropped must be from 0 to below 1, but it is 1$",
                        lambda: jaxrnn.weights.drop(KEY, {"w_h": XS}, 1)),
    "weights, no such": (ValueError, "there is no w_q in these parameters: they have b, w_h, w_x$",
                         lambda: jaxrnn.weights.drop(KEY, LSTM(4).init(KEY, 3), 0.5, ("w_h", "w_q"))),
    "residual sizes": (ValueError, r"Residual needs a layer with as many .* 3 went in and 4 came out: put a Dense",
                       lambda: run(Residual(LSTM(4)))),
    "highway sizes": (ValueError, "Highway needs a layer with as many", lambda: run(jaxrnn.Highway(LSTM(4)))),
    "values, mask and gap": (ValueError, r"GRUD reads d values, .* size must be 2 \* d \+ 1, but it is 4$",
                             lambda: jaxrnn.GRUD(4).init(KEY, 4)),
    "input as it is": (ValueError, r"MUT1 reads its input .* size must be 4, but it is 3: put a Dense\(4\) before it",
                       lambda: jaxrnn.MUT1(4).init(KEY, 3)),
    "no divisor": (ValueError, "SLSTM's num_heads must be a positive integer that divides its .* 4, but it is 3",
                   lambda: jaxrnn.SLSTM(4, num_heads=3)),
    "no divisor of the input": (ValueError, "GroupLSTM's num_groups must divide its input size, 3, but it is 2$",
                                lambda: jaxrnn.GroupLSTM(4, 2).init(KEY, 3)),
    "averages of symbols": (TypeError, r"DampedEMA\(.*\) averages its input, so it needs numbers, not symbols",
                            lambda: run(jaxrnn.DampedEMA(2), xs=SYMBOLS)),
    "heads of an odd size": (ValueError, "Retention's heads must have an even size, but it is 6 / 2$",
                             lambda: jaxrnn.Retention(6, 2)),
    "periods": (ValueError, r"periods must be positive and increasing, but they are \(2, 1\)$",
                lambda: jaxrnn.ClockworkRNN(4, (2, 1))),
    "periods and size": (ValueError, r"a multiple of the number of periods, 2, but it is 5$",
                         lambda: jaxrnn.ClockworkRNN(5, (1, 2))),
    "depth": (ValueError, r"DTRNN's depth must be at least 2, but it is 1: of depth 1", lambda: jaxrnn.DTRNN(4, 1)),
    "depth, shortcuts": (ValueError, r"DTSRNN's depth must be at least 2, but it is 0", lambda: jaxrnn.DTSRNN(4, 0)),
    "depth of outputs": (ValueError, r"DOTRNN's depth must be at least 2, but it is 1$",
                         lambda: jaxrnn.DOTRNN(4, 4, depth=1)),
    "negatives": (ValueError, r"ScoRNN's negatives must be from 0 to 4, but it is 5$", lambda: jaxrnn.ScoRNN(4, 5)),
    "no time": (ValueError, r"CfC's input_size must be at least 2, one of them the time, but it is 1$",
                lambda: jaxrnn.CfC(4, 4).init(KEY, 1)),
    "shape, a number": (ValueError, r"ConvLSTM's shape must be one to three positive .* \(28, 28\), but it is 28$",
                        lambda: jaxrnn.ConvLSTM(28, 4, 3)),
    "shape, of four dimensions": (ValueError, r"shape must be one to three .*, but it is \(2, 2, 2, 2\)$",
                                  lambda: jaxrnn.ConvGRU((2, 2, 2, 2), 4, 3)),
    "kernel, of fewer dimensions": (ValueError, r"kernel_shape must be .* axis of .* \(4, 3\), but it is \(3,\)$",
                                    lambda: jaxrnn.ConvGRU((4, 3), 4, (3,))),
    "kernel, zero": (ValueError, "kernel_shape must be a positive integer, .* but it is 0$",
                     lambda: jaxrnn.PeepholeConvLSTM((4, 3), 4, 0)),
    "images, channels alone": (ValueError, r"input_size must be its shape \(4, 3\) .* as \(4, 3, 3\), but it is 3$",
                               lambda: CONV.init(KEY, 3)),
    "images, other extent": (ValueError, r"ConvLSTM's input_size must be .* but it is \(3, 4, 2\)$",
                             lambda: CONV.init(KEY, (3, 4, 2))),
    "images, other channels": (ValueError, r"last axes of ConvLSTM's input must .* \(4, 3, 2\), but .* in \(4, 3, 1\)",
                               lambda: unroll(CONV, CONV.init(KEY, (4, 3, 2)), np.zeros((5, 4, 3, 1)))),
    "images, integers": (TypeError, "ConvLSTM reads numbers, but its input is of integers, .* cast it to floats",
                         lambda: unroll(CONV, CONV.init(KEY, (4, 3, 1)), np.zeros((5, 4, 3, 1), np.uint8))),
    # initial values
    "chrono": (ValueError, "longest dependency must be more than 2 steps, but it is 2$", lambda: jaxrnn.Chrono(2)),
    "chrono, NaN": (ValueError, "Chrono's longest", lambda: jaxrnn.Chrono(float("nan"))),
    "bias": (ValueError, r"initial bias must be a finite number or Chrono\(longest\), but it is inf",
             lambda: LSTM(4, float("inf")).init(KEY, 3)),
    # loops
    "unroll of a loop": (ValueError, "Scan's unroll must be a positive .* is 0$", lambda: loops.Scan(unroll=0)),
    "unroll, None": (ValueError, "Scan's unroll must be", lambda: loops.Scan(unroll=None)),
    "checkpoints": (ValueError, r"Scan's checkpoint_every must be a positive integer, but it is 2\.0",
                    lambda: loops.Scan(checkpoint_every=2.0)),
    "forward mode": (TypeError, r"Deferred loop has no forward-mode derivative: call unroll with loop=jaxrnn.loops",
                     lambda: jax.jvp(lambda xs: run_lstm(xs, loop=loops.Deferred())[1], (XS,), (XS,))),
    "deferred": (ValueError, "Deferred's unroll must be a positive integer", lambda: loops.Deferred(unroll=-1)),
}  # fmt: skip


def state_rate(h, c):
    return jaxrnn.cells.LSTMState(h, c)


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


# ---- completeness ----------------------------------------------------------------------------------------------------

ROOT = Path(jaxrnn.__file__).parent
# files and folders whose messages are tested beside them
ELSEWHERE = {
    "__main__.py",
    "associative_scan.py",
    "_flax.py",
    "_linen_cells.py",
    "_nnx_cells.py",
    "adopt.py",
    "convert",
    "files.py",
    "linen.py",
    "naming.py",
}
ELSEWHERE |= {"nnx.py", "parts.py", "slots.py", "stream.py", "testing.py", "trees.py", "values.py"}


def test_every_message_is_tested():
    found = list(raises(path for path in sorted(ROOT.rglob("*.py")) if not {path.name, path.parent.name} & ELSEWHERE))
    assert len(found) > 20
    assert all(piece for _, piece in found), "an error without a message"
    missing = untested(found, (call for _, _, call in ERRORS.values()))
    assert not missing, "errors without a test:\n" + "\n".join(missing)
