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
    activation = {"activation": getattr(jax.nn, name.split("-")[1])} if "SimpleRNN-" in name else {}
    assert layer == kind(hidden, **activation)
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


@pytest.mark.parametrize("name", jaxrnn.convert.keras.ACTIVATIONS)
def test_keras_activations_have_the_same_names(name):
    keras = pytest.importorskip("keras")
    x = np.linspace(-4, 4, 33, dtype=np.float32)
    there = np.asarray(getattr(keras.activations, name)(x))
    assert_close(jaxrnn.convert.keras.ACTIVATIONS[name](x), there, rtol=1e-6)


@pytest.mark.parametrize(
    "name", slow_but(["SimpleRNN", "LSTM", "GRU", "GRU-reset-before"], ["LSTM", "GRU-reset-before"])
)
def test_keras_other_activations(name):
    gates = {} if name == "SimpleRNN" else {"recurrent_activation": "hard_sigmoid"}
    theirs = keras_layer(name, 2, 3, activation="softsign", **gates)
    layer, params = from_keras(theirs)
    gates = {"gate_activation": jax.nn.hard_sigmoid} if gates else {}
    assert layer == KERAS[name][0](3, activation=jax.nn.soft_sign, **gates)
    xs = jnp.asarray(4 * draw(TIME, BATCH, 2), jnp.float32)
    assert_close(unroll(layer, params, xs)[1], theirs(xs.swapaxes(0, 1)).swapaxes(0, 1), rtol=1e-5)
    assert_same(from_keras(*to_keras(layer, params)), (layer, params))


def test_hard_sigmoid_is_that_of_the_version_of_keras():
    x = np.linspace(-4, 4, 17)
    np.testing.assert_allclose(jaxrnn.convert.keras.hard_sigmoid(x), np.clip(0.2 * x + 0.5, 0, 1))
    old, new = jaxrnn.convert.keras.hard_sigmoid, jax.nn.hard_sigmoid
    for config, functions, expected in [
        ({"implementation": 2}, {}, old),
        ({"implementation": 2}, {"hard_sigmoid": new}, new),
        ({"time_major": False}, {}, old),
        ({"seed": None}, {}, new),
        ({}, {"hard_sigmoid": old}, old),
    ]:
        config = keras_config("LSTM", recurrent_activation="hard_sigmoid", **config)
        layer, _ = from_keras(config, weights_of("LSTM"), activations=functions)
        assert layer == LSTM(2, gate_activation=expected)


def sine(x):
    return jnp.sin(x)


def test_keras_own_functions():
    layer = keras_layer("SimpleRNN", 2, 2, activation=sine)
    assert from_keras(layer, activations={"sine": jnp.sin})[0] == Elman(2, activation=jnp.sin)
    assert from_keras(keras_layer("SimpleRNN", 2, 2, activation=None))[0] == Elman(2, activation=jax.nn.identity)


@pytest.mark.parametrize("bias", [True, False])
def test_keras_arrays_under_names(bias):
    """Without Keras: the names of its variables, of older files, and of .weights.h5 files."""
    arrays = weights_of("LSTM")[: 2 + bias]
    expected = from_keras(keras_config("LSTM"), arrays)
    assert expected[0] == LSTM(2)
    np.testing.assert_array_equal(expected[1].w_h, arrays[1])
    np.testing.assert_array_equal(expected[1].b, arrays[2] if bias else np.zeros(8))
    for names in ("kernel recurrent_kernel bias", "0 1 2"):
        for above, end in (("", ""), ("model/lstm/lstm_cell/", ":0"), ("layers/lstm/cell/vars/", "")):
            named = {f"{above}{name}{end}": array for name, array in zip(names.split(), arrays, strict=False)}
            named = dict(reversed(named.items())) | {"layers/lstm/cell/seed_generator/vars/0": np.zeros(2, int)}
            assert_same(from_keras({"class_name": "LSTM"}, named), expected)


@pytest.mark.parametrize("kind", [GRU, ResetBeforeGRU])
def test_keras_gru_from_its_config(kind):
    layer = Bidirectional(kind(3))
    params = params_of(layer)
    config, weights = to_keras(layer, params)
    assert_same(from_keras(config, weights), (layer, params))
    named = {}
    for direction, arrays in (("backward_layer", weights[3:]), ("forward_layer", weights[:3])):
        named |= {f"layers/bidirectional/{direction}/cell/vars/{n}": array for n, array in enumerate(arrays)}
    assert_same(from_keras(config, named), (layer, params))
    minimal = keras_config("Bidirectional", layer=keras_config("GRU"))
    assert_same(from_keras(minimal, named), (layer, params))


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


def keras_config(name, **config):
    return {"class_name": name, "config": config}


def weights_of(name, hidden=2, input_size=2):
    """The arrays of a cell with biases; those of a GRU are those of `reset_after=False`."""
    columns = {"LSTM": 4, "GRU": 3, "SimpleRNN": 1}[name] * hidden
    return to_numpy(
        other_weights([np.zeros(shape) for shape in ((input_size, columns), (hidden, columns), (columns,))])
    )


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
        "LSTM's activation must be one of tanh, sigmoid, .* but it is 'softmax': .* activations={'softmax': f",
        lambda: from_keras(keras_layer("LSTM", 2, 2, activation="softmax")),
    ),
    "keras, gates": (
        ValueError,
        "LSTM's recurrent_activation must be one of tanh, sigmoid, .* but it is 'softmax'",
        lambda: from_keras(keras_layer("LSTM", 2, 2, recurrent_activation="softmax")),
    ),
    "keras, a function": (
        ValueError,
        "SimpleRNN's activation must be one of .* but it is 'sine': call from_keras with activations={'sine': f",
        lambda: from_keras(keras_layer("SimpleRNN", 2, 2, activation=sine)),
    ),
    "keras, update gate": (
        ValueError,
        "the recurrent_activation of a GRU with reset_after=False must be sigmoid or hard_sigmoid, but it is 'tanh'",
        lambda: from_keras(keras_config("GRU", recurrent_activation="tanh", reset_after=False), weights_of("GRU")),
    ),
    "keras, hard_sigmoid": (
        ValueError,
        "LSTM's recurrent_activation is hard_sigmoid, which is another function in Keras 3 than in .* or with",
        lambda: from_keras(keras_config("LSTM", recurrent_activation="hard_sigmoid"), weights_of("LSTM")),
    ),
    "keras, activations": (
        TypeError,
        r"activations must be a mapping of names to functions, but it is {'sin': 3}$",
        lambda: from_keras(keras_config("LSTM"), weights_of("LSTM"), activations={"sin": 3}),
    ),
    "keras, weights of a layer": (
        TypeError,
        "weights must be given with a config, but layer is .*: leave them out$",
        lambda: from_keras(unbuilt(), weights_of("LSTM")),
    ),
    "keras, no weights": (
        TypeError,
        "weights must be a list of arrays or a mapping of names to arrays if layer is a config, but .* NoneType$",
        lambda: from_keras(keras_config("LSTM")),
    ),
    "keras, no config": (
        TypeError,
        "a config must be a dict of class_name and config, .* but it is {'units': 4}$",
        lambda: from_keras({"units": 4}, weights_of("LSTM")),
    ),
    "keras, another class": (
        TypeError,
        "class_name must be SimpleRNN, LSTM, GRU or Bidirectional, but it is 'ConvLSTM2D'$",
        lambda: from_keras(keras_config("ConvLSTM2D"), weights_of("LSTM")),
    ),
    "keras, names": (
        ValueError,
        r"the names of weights must end in kernel, .* once per direction, but they are \['a/kernel', 'b/kernel'\]",
        lambda: from_keras(keras_config("LSTM"), {"a/kernel": np.zeros((2, 8)), "b/kernel": np.zeros((2, 8))}),
    ),
    "keras, four arrays": (
        ValueError,
        r"LSTM must have a kernel, a recurrent_kernel and perhaps a bias, but the shapes are \[\(2, 8\),",
        lambda: from_keras(keras_config("LSTM"), [*weights_of("LSTM"), np.zeros(8)]),
    ),
    "keras, half a pair": (
        ValueError,
        "a Bidirectional must have its layer in its config and as many weights in .*, but .* and 3 weights",
        lambda: from_keras(keras_config("Bidirectional", layer=keras_config("LSTM")), weights_of("LSTM")),
    ),
    "keras, reset unknown": (
        ValueError,
        "the config of a GRU without biases must contain reset_after, but it does not: add it$",
        lambda: from_keras(keras_config("GRU"), weights_of("GRU")[:2]),
    ),
    "keras, a bias too few": (
        ValueError,
        r"the bias of a GRU with reset_after=True must have 2 axes, but its shape is \(6,\)$",
        lambda: from_keras(keras_config("GRU", reset_after=True), weights_of("GRU")),
    ),
    "to keras, activation": (
        TypeError,
        r"Elman\(hidden_size=2, activation=sin\) cannot be converted .* its activation must be one of Keras, tanh",
        refuse(to_keras, Elman(2, activation=jnp.sin)),
    ),
    "to keras, gates": (
        TypeError,
        "its gate_activation must be one of Keras, tanh, sigmoid",
        refuse(to_keras, GRU(2, gate_activation=jaxrnn.convert.keras.hard_sigmoid)),
    ),
    "to keras, update gate": (
        TypeError,
        "its gate_activation must be sigmoid or hard_sigmoid$",
        refuse(to_keras, ResetBeforeGRU(2, gate_activation=jnp.tanh)),
    ),
    "to haiku, gates": (
        TypeError,
        r"LSTM\(.*, gate_activation=hard_sigmoid\) cannot be converted to Haiku: its activations must be jnp\.tanh and",
        refuse(to_haiku, LSTM(2, gate_activation=jax.nn.hard_sigmoid)),
    ),
    "to equinox, activation": (
        TypeError,
        "cannot be converted to Equinox: its activations must be",
        refuse(to_equinox, GRU(2, activation=jax.nn.relu)),
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
