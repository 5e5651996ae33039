"""Errors that say which argument does not fit a layer, and calls outside `jit`, which compile once."""

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxrnn
from jaxrnn import GRU, LSTM, Bidirectional, ConvLSTM, Dense, Residual, Stack, step, unroll
from tests.support.comparisons import assert_close

KEY = jax.random.key(0)
XS = jnp.ones((5, 2, 3))
SYMBOLS = jnp.zeros((5, 2), int)
CELL = LSTM(8)
IMAGES = ConvLSTM((4, 4), 2, 3)
STACK = Stack(LSTM(4), GRU(8))
NESTED = Stack(Residual(LSTM(3)), Bidirectional(LSTM(8)))


def draw(layer, size=3):
    return layer.init(KEY, size)


def run(params, layer=CELL, xs=XS, **how):
    return unroll(layer, params, xs, **how)


ERRORS = {
    "another size": (
        ValueError,
        r"params.w_x of LSTM\(hidden_size=9, .*\) must have the shape \(3, 36\), but it has \(3, 32\): give the",
        lambda: run(draw(LSTM(8)), LSTM(9)),
    ),
    "another size, symbols": (
        ValueError,
        r"params.w_x of LSTM\(hidden_size=9, .*\) must have the shape \(\*, 36\), but it has \(3, 32\)",
        lambda: run(draw(LSTM(8)), LSTM(9), SYMBOLS),
    ),
    "another layer": (
        TypeError,
        r"params of GRU\(.*\) must be GRUParams\(w_x, w_h, b, b_n\), but it is LSTMParams\(.*\): it belongs to",
        lambda: run(draw(LSTM(8)), GRU(8)),
    ),
    "another layer of the same shapes": (
        TypeError,
        r"params of JANET\(.*\) must be JANETParams\(.*\), but it is UGRNNParams\(.*\): it belongs to another layer",
        lambda: run(draw(jaxrnn.UGRNN(8)), jaxrnn.JANET(8)),
    ),
    "a dict": (
        TypeError,
        r"must be LSTMParams\(.*\), but it is a dict with the keys b, w_h, w_x: write LSTMParams\(\*\*params\)",
        lambda: run(draw(CELL)._asdict()),
    ),
    "a tuple": (
        TypeError,
        r"but it is a tuple of 3: write LSTMParams\(\*params\)",
        lambda: run(tuple(draw(CELL))),
    ),
    "too short a stack": (
        TypeError,
        r"params of Stack\(.*\) must be a tuple of 2, but it is a tuple of 1: give the parameters that init returned",
        lambda: run(draw(STACK)[:1], STACK),
    ),
    "a list": (
        TypeError,
        r"params of Stack\(.*\) must be a tuple of 2, but it is a list of 2: write tuple\(params\)",
        lambda: run(list(draw(STACK)), STACK),
    ),
    "inside a stack": (
        TypeError,
        r"params\[1\] of Stack\(.*\) must be GRUParams\(.*\), but it is LSTMParams",
        lambda: run((draw(STACK)[0], draw(STACK)[0]), STACK),
    ),
    "deep inside": (
        ValueError,
        r"params\[1\].forward.w_x of Stack\(.*\) must have the shape \(3, 32\), but it has \(3, 36\)",
        lambda: run(draw(Stack(Residual(LSTM(3)), Bidirectional(LSTM(9)))), NESTED),
    ),
    "in place of an array": (
        TypeError,
        r"params.b of LSTM\(.*\) must be an array, but it is a tuple of 1",
        lambda: run(draw(CELL)._replace(b=(jnp.zeros(32),))),
    ),
    "text": (
        TypeError,
        "params must be a pytree of arrays, but one leaf is 'params.safetensors'",
        lambda: run("params.safetensors"),
    ),
    "no parameters": (
        TypeError,
        r"must be LSTMParams\(w_x, w_h, b\), but it is None: give",
        lambda: run(None),
    ),
    "in step": (
        TypeError,
        r"write LSTMParams\(\*\*params\)",
        lambda: step(CELL, draw(CELL)._asdict(), None, XS[0]),
    ),
    "state": (
        TypeError,
        "state must be a pytree of arrays, but one leaf is 'last'",
        lambda: run(draw(CELL), state="last"),
    ),
    "a list of arrays": (
        TypeError,
        r"xs must be an array, but it is a list of 5: write jnp.stack\(xs\)",
        lambda: run(draw(CELL), xs=list(XS)),
    ),
    "nested lists": (
        TypeError,
        r"xs must be an array, but it is a list of 5: write jnp.asarray\(xs\)",
        lambda: run(draw(CELL), xs=XS.tolist()),
    ),
    "a dict of inputs": (
        TypeError,
        r"LSTM\(.*\) cannot read xs, a dict with the keys x \(.*\): most layers take one array",
        lambda: run(draw(CELL), xs={"x": XS}),
    ),
    "several inputs": (
        TypeError,
        r"LSTM\(.*\) cannot read xs, a tuple of 2 \(",
        lambda: run(draw(CELL), xs=(XS, XS)),
    ),
    "objects": (
        TypeError,
        "xs must be an array of numbers, but its dtype is object: cast it$",
        lambda: run(draw(CELL), xs=np.array([None])),
    ),
    "counts": (
        TypeError,
        r"xs are integers of shape \(5, 2, 3\), .* size of LSTM\(.*\): write xs.astype\(jnp.float32\) if they",
        lambda: run(draw(CELL), xs=XS.astype(int)),
    ),
    "pixels": (
        TypeError,
        r"xs are integers of shape \(5, 2, 4, 4, 1\), whose last axis is the input size",
        lambda: run(
            draw(ConvLSTM((4, 4), 2, 3), (4, 4, 1)), ConvLSTM((4, 4), 2, 3), jnp.zeros((5, 2, 4, 4, 1), jnp.uint8)
        ),
    ),
    "lengths": (
        TypeError,
        "lengths must be an array of numbers, but it is 'long'",
        lambda: run(draw(CELL), lengths="long"),
    ),
    "batch first": (
        ValueError,
        r"lengths must have the batch shape \(2,\) of xs, .* \(5,\): is the batch axis first\? xs must be \[time",
        lambda: run(draw(CELL), lengths=[5] * 5),
    ),
    "init, a shape": (
        ValueError,
        r"LSTM's input_size must be its number of input features, but it is \(20, 32, 8\): write init\(key, 8\)",
        lambda: CELL.init(KEY, (20, 32, 8)),
    ),
    "init, below zero": (
        ValueError,
        "LSTM's input_size must be its number of input features, but it is -8$",
        lambda: CELL.init(KEY, -8),
    ),
    "init, a float": (
        TypeError,
        "LSTM's input_size must be an integer, but it is 8.0$",
        lambda: Stack(Dense(4), LSTM(4)).init(KEY, 8) and LSTM(8).init(KEY, 8.0),
    ),
    "init, nothing": (
        TypeError,
        "LSTM's input_size must be an integer, but it is None$",
        lambda: Stack(CELL).init(KEY, None),
    ),
    "init, a number as key": (
        TypeError,
        r"init's key must be one random key, such as jax.random.key\(0\), but it is 0$",
        lambda: CELL.init(0, 8),
    ),
    "init, swapped": (
        TypeError,
        r"init's key must be one random key, such as jax.random.key\(0\), but it is 8$",
        lambda: Stack(CELL).init(8, KEY),
    ),
    "initial state without parameters": (
        TypeError,
        r"initial_state's params must be the parameters of LSTM\(.*\), but it is \(2,\): write initial_state\(params, ",
        lambda: CELL.initial_state((2,)),
    ),
    "initial state, a number": (
        TypeError,
        r"batch_shape must be a tuple such as \(32,\), but it is 2$",
        lambda: CELL.initial_state(draw(CELL), 2),
    ),
}


@pytest.mark.parametrize("name", ERRORS)
def test_error(name):
    kind, message, call = ERRORS[name]
    with pytest.raises(kind, match=message) as error:
        call()
    assert "\n" not in str(error.value)


def test_symbols_are_symbols_when_the_batch_has_the_input_size():
    symbols = jnp.array([[0, 2, 1], [1, 1, 0]])
    _, ys = run(draw(CELL), xs=symbols)
    assert_close(ys, run(draw(CELL), xs=jax.nn.one_hot(symbols, 3))[1])


def test_the_error_of_a_users_own_step_is_left_alone():
    class Broken(jaxrnn.GRU):
        def step(self, params, state, z):
            raise ValueError("the user's own error")

    with pytest.raises(ValueError, match="the user's own error"):
        run(draw(GRU(4)), Broken(4))


def test_parameters_may_hold_more_than_init_draws():
    """What cannot be known from `init` is not refused: a cell whose `init` does not draw its parameters still runs."""

    class Given(jaxrnn.GRU):
        def init(self, key, input_size):
            raise NotImplementedError

    _, ys = run(draw(GRU(4)), Given(4))
    assert_close(ys, run(draw(GRU(4)), GRU(4))[1])


# ---- outside jit -----------------------------------------------------------------------------------------------------

TRACED = []


@dataclass(frozen=True)
class Counting(jaxrnn.GRU):
    name: Any = None

    def project(self, params, x, key=None):
        TRACED.append(self.name)
        return super().project(params, x, key)


CALLS = {
    "unroll": lambda layer, params: unroll(layer, params, XS, lengths=jnp.array([5, 3])),
    "step": lambda layer, params: step(layer, params, layer.initial_state(params, (2,)), XS[0]),
    "gradient": lambda layer, params: jax.grad(lambda p: unroll(layer, p, XS)[1].sum())(params),
    "vmap": lambda layer, params: jax.vmap(lambda xs: unroll(layer, params, xs)[1], 1, 1)(XS),
}


@pytest.mark.parametrize("name", CALLS)
def test_equal_layers_are_traced_once_outside_jit(name):
    params = draw(Counting(4, name=name))
    first = CALLS[name](Counting(4, name=name), params)
    TRACED.clear()
    for _ in range(3):
        again = CALLS[name](Counting(4, name=name), params)
        jax.tree.map(np.testing.assert_array_equal, first, again)
    assert not TRACED
    CALLS[name](Counting(4, name=(name, "another")), params)
    assert TRACED, "another layer must be traced"


def test_a_layer_that_cannot_be_hashed_runs():
    _, ys = run(draw(GRU(4)), Counting(4, name=["unhashable"]))
    assert_close(ys, run(draw(GRU(4)), GRU(4))[1])


def test_nothing_is_added_inside_jit():
    """The compiled program has no call of a function besides its loops and fusions."""
    text = (
        jax.jit(lambda p, xs: unroll(CELL, p, xs, loop=jaxrnn.loops.Scan())[1])
        .lower(draw(CELL), XS)
        .compile()
        .as_text()
    )
    assert " while(" in text
    assert " call(" not in text.replace("to_apply=%parallel", "")
