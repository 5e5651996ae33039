"""Messages of the errors that wrappers raise."""

import jax
import numpy as np
import pytest

import jaxrnn
from jaxrnn import GRU, LSTM, Dense, Zoneout, unroll

KEY = jax.random.key(0)
XS = np.zeros((5, 2, 3), np.float32)


def run(layer, *, xs=XS, **how):
    return unroll(layer, layer.init(KEY, 3), xs, **how)


ERRORS = {
    "rate, negative": (
        ValueError,
        "RecurrentDropout's rate must be",
        lambda: jaxrnn.RecurrentDropout(GRU(2), -0.1),
    ),
    "rate, one of two": (
        ValueError,
        "Zoneout's rate must be from 0",
        lambda: Zoneout(LSTM(2), rate=jaxrnn.cells.LSTMState(0.1, 1.5)),
    ),
    "rate, none": (
        TypeError,
        r"Zoneout's rate must be one number, or one for each array of the state, but it is \(\)$",
        lambda: Zoneout(LSTM(2), rate=()),
    ),
    "rate, structure": (
        ValueError,
        r"Zoneout's rate must be one number, or have the structure .* \[\*, \*\]\)\), but it is \(0\.1, 0\.2\)",
        lambda: run(Zoneout(LSTM(4), rate=(0.1, 0.2))),
    ),
    "wraps a layer": (
        TypeError,
        r"Zoneout's cell must be a jaxrnn cell, but it is Dense\(size=4\)$",
        lambda: Zoneout(Dense(4)),
    ),
    "wraps a class": (
        TypeError,
        r"LearnedInitialState's cell must be a jaxrnn cell, .*: did you mean GRU\(\.\.\.\)\?$",
        lambda: jaxrnn.LearnedInitialState(GRU),
    ),
    "rounds": (
        ValueError,
        "Mogrifier's rounds must be a positive integer, but it is 0$",
        lambda: jaxrnn.Mogrifier(LSTM(4), rounds=0),
    ),
    "rounds, None": (
        TypeError,
        "Mogrifier's rounds must be a positive integer, but it is None$",
        lambda: jaxrnn.Mogrifier(LSTM(4), rounds=None),
    ),
    "rank": (
        TypeError,
        r"Mogrifier's rank must be a positive integer, but it is 2\.0$",
        lambda: jaxrnn.Mogrifier(LSTM(4), rank=2.0),
    ),
    "hidden, a matrix": (
        TypeError,
        r"Multiplicative changes .* numbers \[\*batch, hidden\], but the state of Lin",
        lambda: jaxrnn.Multiplicative(jaxrnn.LinearAttention(2, 2)).init(KEY, 3),
    ),
    "hidden, complex": (
        TypeError,
        "Mogrifier changes the field h of the wrapped cell's .* wrap another cell",
        lambda: jaxrnn.Mogrifier(jaxrnn.LRU(4, 4)).init(KEY, 3),
    ),
    "output of the input": (
        TypeError,
        r"FastSlow computes the input of MLSTM\(hidden_size=4, .* on its input: wrap another cell",
        lambda: run(jaxrnn.FastSlow((jaxrnn.MLSTM(4), jaxrnn.MLSTM(4)), GRU(3))),
    ),
    "one fast cell": (
        TypeError,
        r"FastSlow's fast must be a tuple of at least two jaxrnn cells, but it is \(LSTM",
        lambda: jaxrnn.FastSlow((LSTM(4),), GRU(4)),
    ),
    "fast cells, a list": (
        TypeError,
        r"FastSlow's fast must be a tuple .*, but it is \[GRU",
        lambda: jaxrnn.FastSlow([GRU(4)] * 2, GRU(4)),
    ),
    "slow, a layer": (
        TypeError,
        r"FastSlow's slow must be a jaxrnn cell, but it is Dense\(",
        lambda: jaxrnn.FastSlow((GRU(4),) * 2, Dense(4)),
    ),
    "fast cells that differ": (
        ValueError,
        r"FastSlow's fast must be cells whose states have the same .* dtype=float32\)\)\]",
        lambda: jaxrnn.FastSlow((GRU(4), GRU(5)), GRU(4)).init(KEY, 3),
    ),
}


@pytest.mark.parametrize("name", ERRORS)
def test_error(name):
    kind, message, call = ERRORS[name]
    with pytest.raises(kind, match=message):
        call()
