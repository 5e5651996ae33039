"""Weights of Keras, Haiku and Equinox: values and gradients through the conversion, and the way back."""

import operator
from pathlib import Path
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import jaxrnn
from jaxrnn import GRU, LSTM, Bidirectional, Elman, ResetBeforeGRU, unroll
from jaxrnn.convert import from_equinox, from_haiku, from_keras, to_equinox, to_haiku, to_keras
from jaxrnn.convert.keras import average
from tests.support.comparisons import assert_close, to_numpy
from tests.support.conversions import assert_same, other_weights, params_of, step_and_gradients
from tests.support.inputs import draw
from tests.support.messages import raises, untested
from tests.support.tiers import slow_but

pytestmark = pytest.mark.usefixtures("x64", "quick")
BATCH, TIME = 2, 3
sizes = st.sampled_from([(2, 3), (1, 2), (3, 1)])  # input, hidden


def ours(convert):
    def run(weights, state, x):
        layer, params = convert(weights)
        return tuple(layer(params, type(layer.initial_state(params))(*state), x)[0])

    return run


def state_of(kind, hidden):
    return tuple(jnp.asarray(draw(BATCH, hidden, seed=n)) for n in range(2 if kind is LSTM else 1))


def in_float32(tree):
    return jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float32), tree)


# ---- Keras -----------------------------------------------------------------------------------------------------------

KERAS = {
    "SimpleRNN": (Elman, {}),
    "SimpleRNN-relu": (Elman, {"activation": "relu"}),
    "SimpleRNN-sigmoid": (Elman, {"activation": "sigmoid"}),
    "LSTM": (LSTM, {}),
    "GRU": (GRU, {}),
    "GRU-reset-before": (ResetBeforeGRU, {"reset_after": False}),
}
MERGES = {"concat": jaxrnn.layers.concat, "sum": operator.add, "mul": operator.mul, "ave": average}


def keras_layer(name, input_size, hidden, merge=None, **options):
    """A layer of Keras (which computes in float32 on JAX) with weights none of which is zero."""
    keras = pytest.importorskip("keras")
    options = {"return_sequences": True, "dtype": "float32", **KERAS[name][1], **options}
    layer = getattr(keras.layers, name.split("-")[0])(hidden, **options)
    layer = layer if merge is None else keras.layers.Bidirectional(layer, merge_mode=merge)
    layer.build((BATCH, TIME, input_size))
    layer.set_weights(to_numpy(other_weights(layer.get_weights())))
    return layer


def stand_in(layer, weights):
    """The layer as `from_keras` sees it, with weights that JAX may trace."""
    kind = type(type(layer).__name__, (SimpleNamespace,), {})
    if hasattr(layer, "merge_mode"):
        half = len(weights) // 2
        forward, backward = (
            stand_in(layer.forward_layer, weights[:half]),
            stand_in(layer.backward_layer, weights[half:]),
        )
        return kind(merge_mode=layer.merge_mode, forward_layer=forward, backward_layer=backward)
    return kind(get_config=layer.get_config, get_weights=lambda: weights)


def rebuild(config, weights, input_size):
    keras = pytest.importorskip("keras")
    layer = keras.layers.deserialize(config)
    layer.build((None, None, input_size))
    layer.set_weights(weights)
    return layer


@pytest.mark.parametrize("name", slow_but(KERAS, ["LSTM"]))
@settings(max_examples=2)
@given(st.sampled_from([True, False]), sizes)
def test_keras(name, use_bias, size):
    kind, (input_size, hidden) = KERAS[name][0], size
    theirs = keras_layer(name, input_size, hidden, use_bias=use_bias)
    fixed = [variable.value for variable in theirs.cell.non_trainable_variables]

    def run(weights, state, x):
        return theirs.cell.stateless_call(weights, fixed, x, list(state))[0][1]

    args = in_float32((theirs.get_weights(), state_of(kind, hidden), draw(BATCH, input_size)))
    found = step_and_gradients(ours(lambda weights: from_keras(stand_in(theirs, weights))), *args)
    assert_close(found, step_and_gradients(run, *args), rtol=1e-5)

    layer, params = from_keras(theirs)
    assert layer == kind(hidden, *([getattr(jax.nn, name.split("-")[1])] if "SimpleRNN-" in name else []))
    again = rebuild(*to_keras(layer, params), input_size)
    assert_same(from_keras(again), (layer, params))
    if use_bias and name != "GRU":  # whose two biases are added up
        assert_same(again.get_weights(), theirs.get_weights())


@pytest.mark.slow
@pytest.mark.parametrize(("merge", "name"), zip(MERGES, ["LSTM", "GRU", "GRU-reset-before", "SimpleRNN"], strict=True))
def test_keras_bidirectional(merge, name):
    theirs = keras_layer(name, 2, 3, merge)
    layer, params = from_keras(theirs)
    assert layer == Bidirectional(KERAS[name][0](3), merge=MERGES[merge])
    xs = jnp.asarray(draw(TIME, BATCH, 2), jnp.float32)
    assert_close(unroll(layer, params, xs)[1], theirs(xs.swapaxes(0, 1)).swapaxes(0, 1), rtol=1e-5)
    assert_same(from_keras(rebuild(*to_keras(layer, params), 2)), (layer, params))


@pytest.mark.slow
def test_keras_two_kinds_in_two_directions():
    layer = Bidirectional(LSTM(2), backward=ResetBeforeGRU(3))
    params, xs = in_float32((params_of(layer), draw(TIME, BATCH, 2)))
    theirs = rebuild(*to_keras(layer, params), 2)
    assert_close(theirs(xs.swapaxes(0, 1)).swapaxes(0, 1), unroll(layer, params, xs)[1], rtol=1e-5)
    assert_same(from_keras(theirs), (layer, params))


@pytest.mark.parametrize("name", slow_but(["SimpleRNN", "LSTM", "GRU"], ["GRU"]))
def test_keras_cells(name):
    keras = pytest.importorskip("keras")
    cell = getattr(keras.layers, f"{name}Cell")(3, dtype="float32")
    cell.build((None, 2))
    layer = keras_layer(name, 2, 3)
    layer.set_weights(cell.get_weights())
    assert_same(from_keras(cell), from_keras(layer))


# ---- Haiku -----------------------------------------------------------------------------------------------------------

HAIKU = {
    "VanillaRNN": (Elman, {}),
    "VanillaRNN-one-bias": (Elman, {"double_bias": False}),
    "LSTM": (LSTM, {}),
    "GRU": (ResetBeforeGRU, {}),
}


def haiku_core(name, hidden, core_name=None):
    """A step `(state, x) -> state`, as Haiku's pair of functions."""
    hk = pytest.importorskip("haiku")

    def step(state, x):
        core = getattr(hk, name.split("-")[0])(hidden, **HAIKU[name][1], name=core_name)
        state = core(x, hk.LSTMState(*state) if len(state) == 2 else state[0])[1]
        return tuple(state) if isinstance(state, tuple) else (state,)

    return hk.without_apply_rng(hk.transform(step))


@pytest.mark.parametrize("name", slow_but(HAIKU, ["GRU"]))
@settings(max_examples=2)
@given(sizes)
def test_haiku(name, size):
    input_size, hidden = size
    theirs, state, x = haiku_core(name, hidden), state_of(HAIKU[name][0], hidden), draw(BATCH, input_size)
    tree = other_weights(jax.eval_shape(theirs.init, jax.random.key(0), state, x))
    expected = step_and_gradients(theirs.apply, tree, state, x)
    assert_close(step_and_gradients(ours(from_haiku), tree, state, x), expected, rtol=1e-11)

    layer, params = from_haiku(tree)
    assert layer == (Elman(hidden, activation=jax.nn.relu) if HAIKU[name][0] is Elman else HAIKU[name][0](hidden))
    back = to_haiku(layer, params)
    assert [*back] == [*tree]
    if HAIKU[name][0] is Elman:  # whose two biases are added up
        assert_same(from_haiku(back), (layer, params))
        assert_same([back[name]["w"] for name in back], [tree[name]["w"] for name in back])
    else:
        assert_close(back, tree, rtol=1e-15)  # one is taken from the forget gate's bias and given back
    if name == "LSTM":
        assert_same(back["lstm/linear"]["w"], tree["lstm/linear"]["w"])
    if name == "GRU":
        assert_same(back, tree)


def test_haiku_names_of_cores():
    for layer, name, core in [
        (LSTM(3), "LSTM", "lstm"),
        (ResetBeforeGRU(3), "GRU", "gru"),
        (Elman(3, activation=jax.nn.relu), "VanillaRNN", "vanilla_rnn"),
    ]:
        params, x, state = params_of(layer), draw(BATCH, 2), state_of(type(layer), 3)
        default, named = to_haiku(layer, params), to_haiku(layer, params, name="decoder")
        assert {key.split("/")[0] for key in default} == {core}
        assert_same(from_haiku(named), from_haiku(default))
        expected = ours(lambda params, layer=layer: (layer, params))(params, state, x)
        assert_close(haiku_core(name, 3, "decoder").apply(named, state, x), expected, rtol=1e-11)


@pytest.mark.slow
def test_haiku_core_inside_a_model():
    tree = to_haiku(LSTM(3), params_of(LSTM(3)))
    inside = {f"model/~/{name}": module for name, module in tree.items()}
    assert_same(from_haiku(inside), from_haiku(tree))


# ---- Equinox ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", slow_but([LSTM, GRU], [GRU]))
@settings(max_examples=2)
@given(st.sampled_from([True, False]), sizes)
def test_equinox(kind, use_bias, size):
    input_size, hidden = size
    eqx = pytest.importorskip("equinox")
    make = eqx.nn.LSTMCell if kind is LSTM else eqx.nn.GRUCell
    cell = jax.eval_shape(lambda key: make(input_size, hidden, use_bias, key=key), jax.random.key(0))
    args = other_weights(cell), state_of(kind, hidden), draw(BATCH, input_size)

    def theirs(cell, state, x):
        state = jax.vmap(cell)(x, state if kind is LSTM else state[0])
        return state if kind is LSTM else (state,)

    assert_close(step_and_gradients(ours(from_equinox), *args), step_and_gradients(theirs, *args), rtol=1e-11)

    cell = args[0]
    layer, params = from_equinox(cell)
    assert layer == kind(hidden)
    again = to_equinox(layer, params)
    assert type(again) is type(cell)
    assert_same(from_equinox(again), (layer, params))
    if use_bias:
        assert_same(again, cell)


# ---- what all keep and refuse ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float64])
def test_dtypes_are_kept(dtype):
    pytest.importorskip("equinox")
    for layer in (Elman(2, activation=jax.nn.relu), LSTM(2), GRU(2), ResetBeforeGRU(2)):
        params = jax.tree.map(lambda leaf: jnp.asarray(leaf, dtype), params_of(layer, 3))
        config, weights = to_keras(layer, params)
        assert config["config"]["dtype"] == jnp.dtype(dtype).name
        trees = [weights]
        if not isinstance(layer, GRU):
            trees.append(to_haiku(layer, params))
            trees.append(from_haiku(trees[-1])[1])
        if isinstance(layer, LSTM | GRU):
            trees.append(jax.tree.leaves(to_equinox(layer, params)))
            assert_same(from_equinox(to_equinox(layer, params)), (layer, params))
        assert {leaf.dtype for leaf in jax.tree.leaves(trees)} == {jnp.dtype(dtype)}


def refuse(convert, layer):
    return lambda: convert(layer, params_of(layer))


def changed(tree, **arrays):
    """A dict of modules with some arrays of the last one exchanged."""
    *_, name = tree
    return tree | {name: tree[name] | arrays}


def keras_fake(kind, **fields):
    return type(kind, (SimpleNamespace,), {})(**fields)


def unbuilt():
    keras = pytest.importorskip("keras")
    return keras.layers.GRU(2)


def swapped_directions():
    both = stand_in(layer := keras_layer("GRU", 2, 2, "sum"), layer.get_weights())
    both.forward_layer, both.backward_layer = both.backward_layer, both.forward_layer
    return both


def haiku_tree(layer):
    return to_haiku(layer, params_of(layer))


def equinox_fake(**fields):
    pytest.importorskip("equinox")
    cell = to_equinox(LSTM(2), params_of(LSTM(2)))
    return SimpleNamespace(**{name: getattr(cell, name) for name in cell.__annotations__} | fields)


ERRORS = {
    "keras, another layer": (
        TypeError,
        r"layer must be a SimpleRNN, LSTM, GRU or Bidirectional of Keras, but it is ConvLSTM2D\(\)$",
        lambda: from_keras(keras_fake("ConvLSTM2D")),
    ),
    "keras, a weight": (
        TypeError,
        "layer must be a SimpleRNN, LSTM, GRU or Bidirectional of Keras, but it is 3$",
        lambda: from_keras(3),
    ),
    "keras, unbuilt": (ValueError, "GRU must have weights, but it has none: build it", lambda: from_keras(unbuilt())),
    "keras, backwards": (
        ValueError,
        "LSTM's go_backwards must be False here, but it is True: .* and call unroll with reverse=True",
        lambda: from_keras(keras_layer("LSTM", 2, 2, go_backwards=True)),
    ),
    "keras, both swapped": (ValueError, "go_backwards must be False here", lambda: from_keras(swapped_directions())),
    "keras, no merge": (
        ValueError,
        r"merge_mode must be one of \['concat', 'sum', 'mul', 'ave'\], but it is None",
        lambda: from_keras(keras_fake("Bidirectional", merge_mode=None)),
    ),
    "keras, activation": (
        ValueError,
        "LSTM's activations must be tanh and sigmoid, but they are 'relu' and 'sigmoid'",
        lambda: from_keras(keras_layer("LSTM", 2, 2, activation="relu")),
    ),
    "keras, gates": (
        ValueError,
        "GRU's activations must be tanh and sigmoid, but they are 'tanh' and 'hard_sigmoid'",
        lambda: from_keras(keras_layer("GRU", 2, 2, recurrent_activation="hard_sigmoid")),
    ),
    "keras, activation of SimpleRNN": (
        ValueError,
        r"SimpleRNN's activation must be one of \['tanh', 'relu', 'sigmoid'\], but it is 'linear'",
        lambda: from_keras(keras_layer("SimpleRNN", 2, 2, activation=None)),
    ),
    "keras, a function": (
        ValueError,
        "SimpleRNN's activation must be one of .* but it is {",
        lambda: from_keras(keras_layer("SimpleRNN", 2, 2, activation=jnp.sin)),
    ),
    "to keras, activation": (
        TypeError,
        r"Elman\(hidden_size=2, activation=sin\) cannot be converted .* jax\.nn\.relu or jax\.nn\.sigmoid",
        refuse(to_keras, Elman(2, activation=jnp.sin)),
    ),
    "to keras, merge": (
        TypeError,
        r"Bidirectional\(forward=LSTM\(hidden_size=2, .* or jaxrnn\.convert\.keras\.average",
        refuse(to_keras, Bidirectional(LSTM(2), merge=jnp.maximum)),
    ),
    "to keras, peepholes": (
        TypeError,
        r"PeepholeLSTM\(hidden_size=2, forget_bias=1\.0\) cannot be .* its gates read the memory cell",
        refuse(to_keras, jaxrnn.PeepholeLSTM(2)),
    ),
    "to keras, one gate": (
        TypeError,
        r"ResetAfterMGU\(hidden_size=2, forget_bias=1\.0\) cannot be .* which both resets and updates",
        refuse(to_keras, jaxrnn.ResetAfterMGU(2)),
    ),
    "to keras, a wrapper": (TypeError, "convert its cell", refuse(to_keras, jaxrnn.LearnedInitialState(LSTM(2)))),
    "to keras, directions": (
        TypeError,
        r"PeepholeLSTM\(hidden_size=2, forget_bias=1\.0\) cannot be .* its gates read the memory cell",
        refuse(to_keras, Bidirectional(GRU(2), backward=jaxrnn.PeepholeLSTM(2))),
    ),
    "to keras, parameters": (
        ValueError,
        r"the parameters of GRU\(.*\) must have the shapes GRUParams",
        lambda: to_keras(GRU(2), params_of(ResetBeforeGRU(2))),
    ),
    "haiku, no dict": (
        TypeError,
        r"params must be a dict of dicts, as returned by hk\.transform\(\.\.\.\)\.init, but they are int$",
        lambda: from_haiku(3),
    ),
    "haiku, one module": (TypeError, "but they are dict of ndarray$", lambda: from_haiku({"w": np.zeros((2, 2))})),
    "haiku, two cores": (
        ValueError,
        "params must be those of one VanillaRNN, LSTM or GRU, but .* convert each core separately",
        lambda: from_haiku(haiku_tree(LSTM(2)) | haiku_tree(ResetBeforeGRU(2))),
    ),
    "haiku, two linears": (
        ValueError,
        "must be those of one VanillaRNN",
        lambda: from_haiku({name: {"w": np.zeros((2, 2)), "b": np.zeros(2)} for name in ("mlp/in", "mlp/out")}),
    ),
    "haiku, sizes": (
        ValueError,
        r"the parameters of LSTM\(.*\) must have the shapes",
        lambda: from_haiku({"linear": {"w": np.zeros((2, 8)), "b": np.zeros(8)}}),
    ),
    "haiku, odd sizes": (
        ValueError,
        "must have 3 gates of one size on their last axis",
        lambda: from_haiku(changed(haiku_tree(ResetBeforeGRU(2)), w_i=np.zeros((2, 5)))),
    ),
    "to haiku, activation": (
        TypeError,
        r"Elman\(hidden_size=2, activation=tanh\) cannot be converted .* which hk\.VanillaRNN uses",
        refuse(to_haiku, Elman(2)),
    ),
    "to haiku, reset after": (
        TypeError,
        r"GRU\(hidden_size=2, update_bias=0\.0\) cannot be converted .* recurrent product, not before it",
        refuse(to_haiku, GRU(2)),
    ),
    "to haiku, directions": (TypeError, "convert each of its two layers", refuse(to_haiku, Bidirectional(LSTM(2)))),
    "equinox, no cell": (
        TypeError,
        "cell must be an eqx.nn.LSTMCell or GRUCell, but it is of type int$",
        lambda: from_equinox(3),
    ),
    "equinox, shapes": (
        ValueError,
        r"the parameters of LSTM\(.*\) must have the shapes",
        lambda: from_equinox(equinox_fake(bias=np.zeros(6))),
    ),
    "to equinox, reset before": (
        TypeError,
        r"ResetBeforeGRU\(hidden_size=2, keep_bias=0\.0\) cannot be .* recurrent product, not after it",
        refuse(to_equinox, ResetBeforeGRU(2)),
    ),
    "to equinox, vanilla": (TypeError, "to Equinox: only LSTM, GRU can", refuse(to_equinox, Elman(2))),
}


@pytest.mark.parametrize("name", ERRORS)
def test_error(name):
    kind, message, call = ERRORS[name]
    with pytest.raises(kind, match=message):
        call()


def test_equinox_is_not_installed(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "equinox", None)
    with pytest.raises(ImportError, match="to_equinox needs Equinox: pip install equinox"):
        to_equinox(LSTM(2), params_of(LSTM(2)))


def test_every_message_is_tested():
    for library in ("keras", "haiku", "equinox"):
        pytest.importorskip(library)
    folder = Path(jaxrnn.convert.__file__).parent
    found = [*raises(folder / f"{library}.py" for library in ("keras", "haiku", "equinox"))]
    assert len(found) > 10
    missing = untested(found, (call for _, _, call in ERRORS.values()))
    assert [piece for piece in missing if "pip install" not in piece] == []
