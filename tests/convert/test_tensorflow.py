"""Cells of TensorFlow 1, written in NumPy from their definition, with the variables that a checkpoint has."""

from pathlib import Path

import jax
import numpy as np
import pytest

import jaxrnn
from jaxrnn import GRU, LSTM, Bidirectional, Elman, PeepholeLSTM, ProjectedLSTM, ResetBeforeGRU, Stack
from jaxrnn.convert import from_tensorflow, to_tensorflow
from tests.support.comparisons import assert_close
from tests.support.conversions import assert_same, params_of
from tests.support.inputs import draw
from tests.support.messages import raises, untested

pytestmark = pytest.mark.usefixtures("x64", "quick")
INPUT, HIDDEN, PROJ, TIME, BATCH = 3, 4, 2, 5, 2


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def lstm(v, forget_bias=1.0):
    """`BasicLSTMCell`, and `LSTMCell` with its options."""

    def step(state, x):
        c, m = state
        i, j, f, o = np.split(np.concatenate([x, m], 1) @ v["kernel"] + v["bias"], 4, axis=1)
        peephole = {gate: v.get(f"w_{gate}_diag", 0) for gate in "ifo"}
        c = sigmoid(f + forget_bias + peephole["f"] * c) * c + sigmoid(i + peephole["i"] * c) * np.tanh(j)
        m = sigmoid(o + peephole["o"] * c) * np.tanh(c)
        m = m @ v["projection/kernel"] if "projection/kernel" in v else m
        return (c, m), m

    return step


def gru(v):
    """`GRUCell`."""

    def step(state, x):
        (h,) = state
        r, u = np.split(sigmoid(np.concatenate([x, h], 1) @ v["gates/kernel"] + v["gates/bias"]), 2, axis=1)
        c = np.tanh(np.concatenate([x, r * h], 1) @ v["candidate/kernel"] + v["candidate/bias"])
        h = u * h + (1 - u) * c
        return (h,), h

    return step


def basic_rnn(v):
    def step(state, x):
        h = np.tanh(np.concatenate([x, state[0]], 1) @ v["kernel"] + v["bias"])
        return (h,), h

    return step


def run(step, sizes, xs):
    state, ys = tuple(np.zeros((xs.shape[1], size)) for size in sizes), []
    for x in xs:
        state, y = step(state, x)
        ys.append(y)
    return np.stack(ys)


LSTM_SHAPES = {"kernel": (INPUT + HIDDEN, 4 * HIDDEN), "bias": (4 * HIDDEN,)}
CELLS = {  # a layer, the name of the cell, the shapes of its variables, its step, and the sizes of its state
    "LSTM": (LSTM(HIDDEN), "basic_lstm_cell", LSTM_SHAPES, lstm, (HIDDEN, HIDDEN)),
    "PeepholeLSTM": (
        PeepholeLSTM(HIDDEN),
        "lstm_cell",
        LSTM_SHAPES | {f"w_{gate}_diag": (HIDDEN,) for gate in "fio"},
        lstm,
        (HIDDEN, HIDDEN),
    ),
    "ProjectedLSTM": (
        ProjectedLSTM(HIDDEN, PROJ),
        "lstm_cell",
        {"kernel": (INPUT + PROJ, 4 * HIDDEN), "bias": (4 * HIDDEN,), "projection/kernel": (HIDDEN, PROJ)},
        lstm,
        (HIDDEN, PROJ),
    ),
    "ResetBeforeGRU": (
        ResetBeforeGRU(HIDDEN),
        "gru_cell",
        {
            "gates/kernel": (INPUT + HIDDEN, 2 * HIDDEN),
            "gates/bias": (2 * HIDDEN,),
            "candidate/kernel": (INPUT + HIDDEN, HIDDEN),
            "candidate/bias": (HIDDEN,),
        },
        gru,
        (HIDDEN,),
    ),
    "Elman": (
        Elman(HIDDEN),
        "basic_rnn_cell",
        {"kernel": (INPUT + HIDDEN, HIDDEN), "bias": (HIDDEN,)},
        basic_rnn,
        (HIDDEN,),
    ),
}


def variables_of(kind, above="", seed=0):
    rng = np.random.default_rng(seed)
    return {f"{above}{name}": rng.standard_normal(shape) for name, shape in CELLS[kind][2].items()}


@pytest.mark.parametrize("kind", CELLS)
def test_same_outputs_as_the_definition(kind):
    layer, name, _, step, sizes = CELLS[kind]
    variables, xs = variables_of(kind), draw(TIME, BATCH, INPUT)
    found, params = from_tensorflow({f"rnn/{name}/{part}": w for part, w in variables.items()})
    assert found == layer
    assert_close(jaxrnn.unroll(found, params, xs)[1], run(step(variables), sizes, xs), rtol=1e-11)


@pytest.mark.parametrize("kind", CELLS)
def test_variables_come_back_as_they_were(kind):
    name = CELLS[kind][1]
    given = variables_of(kind, f"decoder/rnn/{name}/")
    layer, params = from_tensorflow(given)
    back = to_tensorflow(layer, params, prefix="decoder/rnn/")
    assert back.keys() == given.keys()
    for key, w in given.items():
        np.testing.assert_allclose(back[key], w, rtol=1e-15, atol=1e-15 if "bias" in key else 0)
    if "lstm" not in name:  # the forget bias that is added and subtracted may cost a bit
        assert_same(from_tensorflow(back), (layer, params))


@pytest.mark.parametrize("forget_bias", [0.0, 2.5])
def test_the_forget_bias_of_every_step_is_a_part_of_the_bias(forget_bias):
    variables, xs = variables_of("LSTM"), draw(TIME, BATCH, INPUT)
    layer, params = from_tensorflow(variables, forget_bias=forget_bias)
    expected = run(lstm(variables, forget_bias), (HIDDEN, HIDDEN), xs)
    assert_close(jaxrnn.unroll(layer, params, xs)[1], expected, rtol=1e-11)
    assert_close(to_tensorflow(layer, params, forget_bias=forget_bias)["basic_lstm_cell/bias"], variables["bias"])


def test_a_cell_for_weights_of_cudnn_adds_no_forget_bias():
    variables = variables_of("LSTM", "rnn/cudnn_compatible_lstm_cell/")
    plain = {name.split("/")[-1]: w for name, w in variables.items()}
    assert_same(from_tensorflow(variables), from_tensorflow(plain, forget_bias=0.0))


def test_the_names_of_a_checkpoint():
    """Layers in the order of their numbers, both directions, colons, slots of the optimizer, and other variables."""
    checkpoint = {"global_step": np.zeros(()), "model/softmax/kernel": np.zeros((4, 2))}
    for direction, seed in (("fw", 1), ("bw", 2)):
        above = f"model/rnn/bidirectional_rnn/{direction}/multi_rnn_cell/"
        for number in range(11):
            cell = {"kernel": (INPUT if number == 0 else HIDDEN, HIDDEN)}
            rng = np.random.default_rng([seed, number])
            rows = sum(cell["kernel"])
            name = f"{above}cell_{number}/basic_lstm_cell"
            checkpoint[f"{name}/kernel:0"] = rng.standard_normal((rows, 4 * HIDDEN))
            checkpoint[f"{name}/bias:0"] = rng.standard_normal(4 * HIDDEN)
            checkpoint[f"{name}/kernel/Adam"] = checkpoint[f"{name}/kernel/Adam_1"] = np.zeros((rows, 4 * HIDDEN))
    layer, params = from_tensorflow(checkpoint, prefix="model/rnn/")
    assert layer == Bidirectional(Stack(*11 * [LSTM(HIDDEN)]))
    for direction, part in (("fw", params.forward), ("bw", params.backward)):
        for number in range(11):
            name = f"model/rnn/bidirectional_rnn/{direction}/multi_rnn_cell/cell_{number}/basic_lstm_cell/"
            _, alone = from_tensorflow({"kernel": checkpoint[name + "kernel:0"], "bias": checkpoint[name + "bias:0"]})
            assert_same(part[number], alone)
    again = to_tensorflow(layer, params, prefix="x/")
    assert_same(from_tensorflow(again)[1], from_tensorflow(to_tensorflow(layer, params))[1])
    assert "x/bw/multi_rnn_cell/cell_10/basic_lstm_cell/bias" in again


@pytest.mark.parametrize("kind", ["Elman", "LSTM"])
def test_a_prefix_may_end_in_the_name_of_the_cell(kind):
    name = f"rnn/{CELLS[kind][1]}_1/"
    variables = variables_of(kind, name)
    assert_same(from_tensorflow(variables, prefix=name), from_tensorflow(variables))


def test_dtypes_are_kept():
    variables = {name: w.astype(np.float32) for name, w in variables_of("LSTM").items()}
    layer, params = from_tensorflow(variables)
    assert {leaf.dtype for leaf in jax.tree.leaves((params, to_tensorflow(layer, params)))} == {np.dtype("float32")}


def written(layer, **how):
    return lambda: to_tensorflow(layer, params_of(layer), **how)


CELL = variables_of("LSTM", "rnn/basic_lstm_cell/")
ERRORS = {
    "no mapping": (
        TypeError,
        "variables must be a mapping of names to arrays, but it is list$",
        lambda: from_tensorflow([]),
    ),
    "forget bias": (
        TypeError,
        "forget_bias must be a number, but it is '1'$",
        lambda: from_tensorflow(CELL, forget_bias="1"),
    ),
    "forget bias, written": (
        TypeError,
        "forget_bias must be a number, but it is None$",
        written(LSTM(2), forget_bias=None),
    ),
    "prefix": (TypeError, "prefix must be a string, but it is 3$", lambda: from_tensorflow(CELL, prefix=3)),
    "nothing": (
        ValueError,
        r"variables must be those of one BasicLSTMCell, .* but they are \[\]: give",
        lambda: from_tensorflow({}),
    ),
    "more": (
        ValueError,
        r"nothing else under the prefix, but they are \['rnn/.*, 'global_step'\]: give the beginning of their names",
        lambda: from_tensorflow(CELL | {"global_step": np.zeros(())}),
    ),
    "another cell": (
        ValueError,
        "variables must be those of one",
        lambda: from_tensorflow(variables_of("LSTM", "rnn/my_cell/")),
    ),
    "other arrays of an LSTM": (
        ValueError,
        "variables must be those of one",
        lambda: from_tensorflow(CELL | {"rnn/basic_lstm_cell/gamma": np.zeros(HIDDEN)}),
    ),
    "one name inside another": (
        ValueError,
        "a name must not continue that of another array, but kernel/more does: leave it out$",
        lambda: from_tensorflow(variables_of("LSTM") | {"kernel/more": np.zeros(2)}),
    ),
    "rows": (
        ValueError,
        r"a kernel must be a matrix with rows for the input and 4 for the state, but its shape is \(4, 16\)$",
        lambda: from_tensorflow({"kernel": np.zeros((4, 16)), "bias": np.zeros(16)}),
    ),
    "sizes": (
        ValueError,
        "weights must have 4 gates of one size",
        lambda: from_tensorflow({"kernel": np.zeros((7, 15)), "bias": np.zeros(16)}),
    ),
    "another size": (
        ValueError,
        r"the parameters of LSTM\(.*\) must have the shapes",
        lambda: from_tensorflow({"kernel": np.zeros((7, 12)), "bias": np.zeros(16)}),
    ),
    "to TensorFlow, reset after": (TypeError, "recurrent product, not before it$", written(GRU(2))),
    "to TensorFlow, merge": (
        TypeError,
        "convert each of its two layers",
        written(Bidirectional(LSTM(2), merge=np.add)),
    ),
    "to TensorFlow, activation": (
        TypeError,
        r"Elman\(.*\) cannot be converted to TensorFlow: its activation must be jnp\.tanh$",
        written(Elman(2, activation=jax.nn.relu)),
    ),
    "to TensorFlow, gates": (
        TypeError,
        r"LSTM\(hidden_size=2, forget_bias=1\.0, gate_activation=hard_sigmoid\) cannot be converted to TensorFlow: its",
        written(LSTM(2, gate_activation=jax.nn.hard_sigmoid)),
    ),
    "to TensorFlow, a stack": (
        ValueError,
        "the parameters of Stack.* must be a tuple of 2, one for each layer$",
        lambda: to_tensorflow(Stack(LSTM(2), LSTM(2)), ()),
    ),
}


@pytest.mark.parametrize("name", ERRORS)
def test_error(name):
    kind, message, call = ERRORS[name]
    with pytest.raises(kind, match=message):
        call()


def test_every_message_is_tested():
    found = [*raises([Path(jaxrnn.convert.__file__).parent / "tensorflow.py"])]
    assert len(found) > 8
    assert untested(found, (call for _, _, call in ERRORS.values())) == []
