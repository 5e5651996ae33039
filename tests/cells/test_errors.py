"""Messages of the errors that cells raise."""

import jax
import numpy as np
import pytest

import jaxrnn
from jaxrnn import GRU, LSTM, unroll

KEY = jax.random.key(0)
XS = np.zeros((5, 2, 3), np.float32)
SYMBOLS = np.zeros((5, 2), np.int32)
CONV = jaxrnn.ConvLSTM((4, 3), 2, 3)


def run(layer, *, xs=XS, **how):
    return unroll(layer, layer.init(KEY, 3), xs, **how)


ERRORS = {
    "size, zero": (
        ValueError,
        "LSTM's hidden_size must be a positive integer, but it is 0",
        lambda: LSTM(0),
    ),
    "size, a bool": (
        TypeError,
        "GRU's hidden_size must be a positive integer, but it is True$",
        lambda: GRU(True),
    ),
    "size, the second": (
        ValueError,
        "ProjectedLSTM's projection_size must be",
        lambda: jaxrnn.ProjectedLSTM(4, -1),
    ),
    "values, mask and gap": (
        ValueError,
        r"GRUD reads d values, .* size must be 2 \* d \+ 1, but it is 4$",
        lambda: jaxrnn.GRUD(4).init(KEY, 4),
    ),
    "input as it is": (
        ValueError,
        r"MUT1 uses its input without .* must be 4, but it is 3: put a Dense\(4\) before it, or an Embedding\(4\)",
        lambda: jaxrnn.MUT1(4).init(KEY, 3),
    ),
    "no divisor": (
        ValueError,
        "SLSTM's num_heads must be a positive integer that divides its .* 4, but it is 3",
        lambda: jaxrnn.SLSTM(4, num_heads=3),
    ),
    "no divisor of the input": (
        ValueError,
        "GroupLSTM's num_groups must divide its input size, 3, but it is 2$",
        lambda: jaxrnn.GroupLSTM(4, num_groups=2).init(KEY, 3),
    ),
    "symbols without a time": (
        TypeError,
        r"CfC\(.*\) reads the time from .*, so it needs numbers, not symbols: append it to the output of an Embedding",
        lambda: run(jaxrnn.CfC(2, 2), xs=SYMBOLS),
    ),
    "symbols without a mask": (
        TypeError,
        r"GRUD\(.*\) reads values, their mask and a time, so .* not symbols: give it 3 features per step",
        lambda: run(jaxrnn.GRUD(2), xs=SYMBOLS),
    ),
    "heads of an odd size": (
        ValueError,
        "Retention's num_heads must be a divisor of its hidden_size, 6, with an even quotient, but it is 2$",
        lambda: jaxrnn.Retention(6, num_heads=2),
    ),
    "periods": (
        ValueError,
        r"ClockworkRNN's periods must be a tuple of increasing positive integers, but it is \(2, 1\)$",
        lambda: jaxrnn.ClockworkRNN(4, periods=(2, 1)),
    ),
    "periods and size": (
        ValueError,
        r"a multiple of the number of periods, 2, but it is 5$",
        lambda: jaxrnn.ClockworkRNN(5, periods=(1, 2)),
    ),
    "depth": (
        ValueError,
        "DTRNN's depth must be an integer of at least 2, but it is 1$",
        lambda: jaxrnn.DTRNN(4, depth=1),
    ),
    "depth, shortcuts": (
        ValueError,
        "DTSRNN's depth must be an integer of at least 2, but it is 0$",
        lambda: jaxrnn.DTSRNN(4, depth=0),
    ),
    "depth of outputs": (
        ValueError,
        "DOTRNN's depth must be an integer of at least 2, but it is 1$",
        lambda: jaxrnn.DOTRNN(4, 4, depth=1),
    ),
    "negatives": (
        ValueError,
        r"ScoRNN's negatives must be from 0 to 4, but it is 5$",
        lambda: jaxrnn.ScoRNN(4, negatives=5),
    ),
    "no time": (
        ValueError,
        "CfC's input_size must be at least 2, because the last feature is the time .*, but it is 1$",
        lambda: jaxrnn.CfC(4, 4).init(KEY, 1),
    ),
    "shape, a number": (
        TypeError,
        r"ConvLSTM's shape must be one to three positive .* \(28, 28\), but it is 28$",
        lambda: jaxrnn.ConvLSTM(28, 4, 3),
    ),
    "shape, of four dimensions": (
        ValueError,
        r"shape must be one to three .*, but it is \(2, 2, 2, 2\)$",
        lambda: jaxrnn.ConvGRU((2, 2, 2, 2), 4, 3),
    ),
    "kernel, of fewer dimensions": (
        ValueError,
        r"kernel_shape must be .* axis of .* \(4, 3\), but it is \(3,\)$",
        lambda: jaxrnn.ConvGRU((4, 3), 4, (3,)),
    ),
    "kernel, zero": (
        ValueError,
        "kernel_shape must be a positive integer, .* but it is 0$",
        lambda: jaxrnn.PeepholeConvLSTM((4, 3), 4, 0),
    ),
    "images, channels alone": (
        ValueError,
        r"input_size must be its shape \(4, 3\) .* as \(4, 3, 3\), but it is 3$",
        lambda: CONV.init(KEY, 3),
    ),
    "images, other extent": (
        ValueError,
        r"ConvLSTM's input_size must be .* but it is \(3, 4, 2\)$",
        lambda: CONV.init(KEY, (3, 4, 2)),
    ),
    "images, other channels": (
        ValueError,
        r"last axes of ConvLSTM's input must .* \(4, 3, 2\), but .* in \(4, 3, 1\)",
        lambda: unroll(CONV, CONV.init(KEY, (4, 3, 2)), np.zeros((5, 4, 3, 1))),
    ),
    "images, integers": (
        TypeError,
        r"ConvLSTM\(shape=.*\) reads images, so it needs numbers, not symbols: cast integer images to a float",
        lambda: unroll(CONV, CONV.init(KEY, (4, 3, 1)), np.zeros((5, 4, 3, 1), np.uint8)),
    ),
    "bias": (
        ValueError,
        r"LSTM's forget_bias must be a finite number or Chrono\(longest\), but it is inf$",
        lambda: LSTM(4, forget_bias=float("inf")).init(KEY, 3),
    ),
    "periods, zero": (
        ValueError,
        r"ClockworkRNN's periods must be a tuple of increasing positive integers, but it is \(0, 1\)$",
        lambda: jaxrnn.ClockworkRNN(4, periods=(0, 1)),
    ),
    "periods, none": (
        ValueError,
        r"ClockworkRNN's periods must be a tuple of increasing positive integers, but it is \(\)$",
        lambda: jaxrnn.ClockworkRNN(4, periods=()),
    ),
    "periods, a list": (
        TypeError,
        r"ClockworkRNN's periods must be a tuple of increasing positive integers, but it is \[1, 2\]$",
        lambda: jaxrnn.ClockworkRNN(4, periods=[1, 2]),
    ),
    "periods, a size that they do not divide": (
        ValueError,
        "a multiple of the number of periods, 3, but it is 4$",
        lambda: jaxrnn.ClockworkRNN(4, periods=(1, 2, 4)),
    ),
    "log_periods": (
        ValueError,
        r"PhasedLSTM's log_periods must be a tuple of two finite numbers, .* but it is \(2.0, 1.0\)$",
        lambda: jaxrnn.PhasedLSTM(4, log_periods=(2.0, 1.0)),
    ),
    "log_periods, a number": (
        TypeError,
        "PhasedLSTM's log_periods must be a tuple of two finite numbers, .* but it is 1.0$",
        lambda: jaxrnn.PhasedLSTM(4, log_periods=1.0),
    ),
    "shortest and longest of RGLRU": (
        ValueError,
        "RGLRU's shortest must be at most its longest",
        lambda: jaxrnn.RGLRU(shortest=0.9, longest=0.5),
    ),
    "shortest and longest of S4D": (
        ValueError,
        "S4D's shortest must be at most its longest, 0.1, but it is 0.5$",
        lambda: jaxrnn.S4D(4, shortest=0.5, longest=0.1),
    ),
    "frequencies of S4D": (
        ValueError,
        r"S4D's frequencies must return an array \[4\] for an array \[4\], but it returns one of the shape \[3\]$",
        lambda: jaxrnn.S4D(4, frequencies=lambda n: n[1:]).init(KEY, 3),
    ),
    "shortest and longest of S5": (
        ValueError,
        "S5's shortest must be at most its longest",
        lambda: jaxrnn.S5(4, 2, shortest=0.5, longest=0.1),
    ),
    "seed": (
        ValueError,
        r"URNN's seed must be a non-negative integer below 2\*\*32, but it is 4294967296$",
        lambda: jaxrnn.URNN(4, seed=2**32),
    ),
}


@pytest.mark.parametrize("name", ERRORS)
def test_error(name):
    kind, message, call = ERRORS[name]
    with pytest.raises(kind, match=message):
        call()
