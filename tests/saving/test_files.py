"""Files: any layer with its parameters comes back equal, bit for bit, or an error says why not."""

import dataclasses
import inspect
import itertools
import json
import operator
import os
import stat
import sys
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import safetensors.numpy
from hypothesis import given, settings
from hypothesis import strategies as st

import jaxrnn
from jaxrnn import GRU, LSTM, Bidirectional, Chrono, Dropout, Elman, Stack, Using, Zoneout, trees
from jaxrnn._names import names_along, to_dict
from jaxrnn._saving import json_values
from jaxrnn._saving.fitting import check_fit
from jaxrnn._serving import state_bytes
from tests.support.cases import LOOPS, cases, examples, selected_layers, variants
from tests.support.inputs import INPUT, draw_params
from tests.support.messages import raises, untested
from tests.support.tiers import slow_but

pytestmark = pytest.mark.usefixtures("x64", "quick")
ALL = selected_layers()
TREES = [
    trees.ChildSumTreeLSTM(3),
    trees.NaryTreeLSTM(3, arity=3),
    trees.RecursiveNet(2),
    trees.RNTN(
        2,
    ),
]


@pytest.fixture
def path(tmp_path):
    return tmp_path / "model.safetensors"


def assert_same(one, other):
    """Equal pytrees of the same containers, whose arrays agree in dtype, shape and bits."""
    assert jax.tree.structure(one) == jax.tree.structure(other)
    for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True):
        if isinstance(a, bool | int | float | complex) and not isinstance(a, np.generic):
            assert (type(a), repr(a)) == (type(b), repr(b))
        else:
            assert isinstance(b, jax.Array)
            assert (b.dtype.name, b.shape) == (a.dtype.name, np.shape(a))
            assert np.asarray(a).astype(b.dtype).tobytes() == np.asarray(b).tobytes()


def blank(layer, input_size=INPUT):
    """Parameters of a layer, all zero."""
    drawn = jax.eval_shape(lambda key: layer.init(key, input_size), jax.random.key(0))
    return jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), drawn)


def comes_back(path, layer, params=None, classes=()):
    params = blank(layer) if params is None else params
    jaxrnn.save(path, layer, params)
    again, same = jaxrnn.load(path, classes=classes)
    assert type(again) is type(layer)
    assert again == layer
    assert_same(params, same)
    content = path.read_bytes()
    assert "np." in repr(layer) or repr(again) == repr(layer)  # numbers of NumPy's become Python's
    jaxrnn.save(path, again, same)
    assert path.read_bytes() == content
    return again, same


@pytest.mark.parametrize("layer", [*ALL.values(), *TREES], ids=repr)
def test_every_layer_comes_back(layer, path):
    params = draw_params(layer)
    again, _ = comes_back(path, layer, params)
    assert hash(again) == hash(layer)
    small = jax.tree.map(lambda leaf: leaf.astype("bfloat16"), params)
    comes_back(path, layer, small)


def test_a_file_is_what_any_reader_of_safetensors_expects(path):
    layer = Stack(LSTM(4), Bidirectional(GRU(2)))
    params = draw_params(layer)
    jaxrnn.save(str(path), layer, params)
    tensors = safetensors.numpy.load_file(path)
    assert {*tensors} == {
        *(f"layers_0/{name}" for name in ("w_x", "w_h", "b")),
        *(f"layers_1/{way}/{name}" for way in ("forward", "backward") for name in ("w_x", "w_h", "b", "b_n")),
    }
    for name, tensor in tensors.items():
        node = to_dict(params)
        for key in name.split("/"):
            node = node[key]
        np.testing.assert_array_equal(tensor, node)


# ---- what a layer may be made of -------------------------------------------------------------------------------------


class MGUParams(NamedTuple):
    w: Any
    b: Any = None


@dataclass(frozen=True)
class MGU(jaxrnn.Cell):
    """A user's own cell. Only its fields matter; it never runs here."""

    hidden_size: int
    option: Any = None

    def init(self, key, input_size):
        return MGUParams(jnp.ones((input_size, self.hidden_size)))

    initial_state = project = step = readout = lambda self, *args: ()


@dataclass
class Settings:
    depth: int
    derived: int = dataclasses.field(init=False)

    def __post_init__(self):
        self.derived = 2 * self.depth


def no_step(params, state, x):
    return state, x


def no_state(params, batch_shape):
    return ()


def squash(x):
    return x / (1 + abs(x))


@pytest.mark.parametrize(
    "layer",
    [
        LSTM(4, forget_bias=Chrono(20)),
        GRU(4, update_bias=-0.0),
        GRU(4, update_bias=np.float64(0.1)),
        Elman(4, activation=jax.nn.relu),
        Elman(4, activation=jax.nn.silu),
        Elman(4, activation=jnp.sin),
        LSTM(4, gate_activation=jaxrnn.convert.keras.hard_sigmoid),
        Stack(GRU(4), jaxrnn.Activation(jax.nn.glu)),
        Bidirectional(LSTM(4), merge=operator.add),
        Bidirectional(LSTM(4), merge=jaxrnn.convert.keras.average),
        Bidirectional(Bidirectional(LSTM(4), backward=GRU(2))),
        Zoneout(LSTM(4), rate=jaxrnn.cells.LSTMState(0.25, np.float32(0.1))),
        Zoneout(LSTM(4), rate=(0.1, 0.2)),
        Zoneout(LSTM(4), rate={"h": 0.1, "c": [0.2]}),
        jaxrnn.Highway(Stack(Dropout(0.5, shared=True), jaxrnn.Residual(Stack(GRU(3))))),
        *(Using(LSTM(4), loop) for loop in LOOPS.values()),
    ],
    ids=repr,
)
def test_fields_come_back(layer, path):
    comes_back(path, layer)


@pytest.mark.parametrize(
    "option",
    [
        "öl\n\"'", 10**30, float("inf"), -float("inf"), 1 + 2j, complex(-0.0, float("inf")), True, (), [], {},
        (1, (2,)),
        {1: "a", ("b", 2): None}, squash, jnp.float32, jnp.bfloat16, LSTM, MGU, MGUParams(1, MGUParams(2)), Settings(3),
        np.int8(3), np.bool_(True), np.complex64(1j),
    ],
    ids=lambda option: getattr(option, "__name__", repr(option)),  # functions without their place in memory
)  # fmt: skip
def test_own_classes_with_any_fields(option, path):
    layer = Stack(MGU(4, option), MGU(3))
    params = (MGUParams(jnp.ones((2, 4)), {"deep": [MGUParams(1.5)]}), MGUParams(jnp.zeros(3)))
    comes_back(path, layer, params, classes=(MGU, MGUParams, Settings, squash))


def test_an_adopted_step_comes_back_by_its_functions(path):
    comes_back(path, Stack(jaxrnn.adopt(no_step, no_state)), ({"w": jnp.ones(3)},), classes=[no_step, no_state])


def test_a_field_that_is_newer_than_the_file_has_its_default(path):
    jaxrnn.save(path, MGU(4), MGUParams(jnp.ones(1)))

    @dataclass(frozen=True)
    class Newer(MGU):
        added: float = 0.5

    Newer.__name__ = "MGU"
    layer, params = jaxrnn.load(path, classes=[Newer, MGUParams])
    assert layer == Newer(4, None, 0.5)
    assert params.b is None


def test_names_in_files_are_of_one_thing():
    homes = [(name, value) for module in json_values.PACKAGES for name, value in json_values._public(module).items()]
    ours = {(name, value) for name, value in homes if inspect.isclass(value) and json_values._is_ours(value)}
    assert len({name for name, _ in ours}) == len(ours)
    assert {type(layer).__name__ for layer in [*ALL.values(), *TREES]} <= json_values.KNOWN["jaxrnn"].keys()


@pytest.mark.parametrize("layer", [*[case.cell for case in (cases() | variants()).values()], *ALL.values()], ids=repr)
def test_the_functions_of_all_layers_are_known(layer):
    users = []
    json_of_layer = json_values.to_json(layer, lambda *_: None, users)
    assert all(function.__module__.startswith("tests") for function in users)
    assert json_values.from_json(json_of_layer, lambda *_: None, json_values.user_names(users), "layer") == layer


def test_a_time_aware_lstm_needs_no_classes(path):
    layer = jaxrnn.TimeAwareLSTM(4)
    again, _ = comes_back(path, layer)
    assert again.decay is layer.decay


def test_other_functions_of_jax_are_given_as_classes(path):
    layer = Bidirectional(Elman(4, activation=jnp.cumsum), merge=jnp.add)
    again, params = comes_back(path, layer, classes=[jnp.cumsum])
    assert again.forward.activation is jnp.cumsum
    with pytest.raises(ValueError, match=r"layer/forward/activation: it needs cumsum, .* classes=\[cumsum, \.\.\.\]"):
        jaxrnn.load(path)
    # An older version wrote the names of all functions of jax.numpy.
    jaxrnn.save(path, layer, params)
    forge(path, path, lambda about: json.loads(json.dumps(about).replace('"cumsum"', '"jax.numpy.cumsum"')))
    assert jaxrnn.load(path, classes=[jnp.cumsum])[0] == layer
    with pytest.raises(
        ValueError, match=r"it needs jax\.numpy\.cumsum, .* trust the file, .* classes=\[jax\.numpy\.cums"
    ):
        jaxrnn.load(path)


def test_known_functions_only_compute():
    """Every function that an untrusted file may name takes one or two arrays and returns one of their shape."""
    known = [value for names in json_values.KNOWN.values() for value in names.values() if not isinstance(value, type)]
    functions = [value for value in known if not isinstance(value, type(jnp.float32))]
    assert 50 < len(functions) < 80
    x = jax.ShapeDtypeStruct((2, 4), "float32")
    shapes = [(2, 4), (2, 8), (2, 2)]  # `concat` has twice the features, and `glu` half of them
    for function in functions:
        try:
            y = jax.eval_shape(function, x)
        except TypeError:
            y = jax.eval_shape(function, x, x)
        assert y.dtype == x.dtype
        assert y.shape in shapes, function


def test_a_file_cannot_write_files(path, monkeypatch):
    """The function and the parameters of a cell that would overwrite a file at the first step."""
    victim = path.with_name("victim.npy")
    victim.write_bytes(b"unharmed")
    jaxrnn.save(path, Elman(2, activation=jnp.tanh), blank(Elman(2)))

    def attack(about):
        about["layer"]["fields"]["activation"] = {"name": "jax.numpy.save"}
        about["params"] = {"class": "jaxrnn.ElmanParams", "fields": dict.fromkeys(["w_x", "w_h", "b"], str(victim))}
        return about

    forge(path, path, attack)
    with pytest.raises(ValueError, match=r"layer/activation: it needs jax\.numpy\.save"):
        jaxrnn.load(path)
    with pytest.raises(ValueError, match=r"parameters must be arrays of numbers, but w_x is "):
        jaxrnn.load(path, classes=[jnp.save])
    assert victim.read_bytes() == b"unharmed"


def test_a_file_of_an_older_version_loads():
    """`version_0.1.0.safetensors` was written before there were checksums."""
    path = Path(__file__).with_name("version_0.1.0.safetensors")
    layer, params = jaxrnn.load(path)
    forward = Zoneout(LSTM(4, forget_bias=Chrono(20.0)), rate=jaxrnn.cells.LSTMState(0.1, 0.4))
    assert layer == Stack(
        jaxrnn.Embedding(6),
        Bidirectional(forward, backward=GRU(4)),
        jaxrnn.Residual(jaxrnn.Dense(8)),
        Dropout(0.25, shared=True),
        Using(jaxrnn.Skip(Elman(3, activation=jax.nn.relu)), loop=jaxrnn.loops.Deferred(block=2)),
        jaxrnn.LayerNorm(),
        jaxrnn.Sliced(jaxrnn.Multiplicative(GRU(3)), slices=2),
        jaxrnn.Window(2),
    )
    tensors = safetensors.numpy.load_file(path)
    assert len(tensors) == len(jax.tree.leaves(params)) == 30
    for where, leaf in jax.tree_util.tree_leaves_with_path(params):
        np.testing.assert_array_equal(leaf, tensors["/".join(names_along(where))])


# ---- which parameters fit a layer ------------------------------------------------------------------------------------


def every_case():
    found = {name: (case.cell, case.reference.input_size) for name, case in (cases() | variants()).items()}
    return found | {name: (layer, INPUT) for name, layer in examples().items()}


@pytest.mark.parametrize("name", slow_but([*every_case()], ["GRUD", "GroupLSTM", "ConvLSTM", "TimeAwareLSTM", "MUT1"]))
def test_the_parameters_of_a_layer_fit_it_and_others_do_not(name):
    layer, input_size = every_case()[name]
    params = blank(layer, input_size)
    check_fit(layer, params)
    leaves, tree = jax.tree.flatten(params)
    check_fit(layer, tree.unflatten([np.zeros((3, *leaf.shape), "int8") for leaf in leaves]))  # an ensemble
    if len(leaves) > 1:
        larger = [np.zeros((*leaves[0].shape[:-1], leaves[0].shape[-1] + 1)), *leaves[1:]]
        with pytest.raises(ValueError, match="the parameters must be those of"):
            check_fit(layer, tree.unflatten(larger))
        with pytest.raises(ValueError, match="the parameters must be those of"):
            check_fit(layer, {"params": params})


def test_input_sizes_are_found_through_layers():
    image = jaxrnn.ConvLSTM((4, 6), 2, (3, 3))
    for layer, size in [
        (Stack(jaxrnn.Window(3), jaxrnn.Dense(5), LSTM(4)), 7),
        (Stack(Dropout(0.1), jaxrnn.GRUD(4)), 11),
        (Stack(image, Dropout(0.1), image), (4, 6, 9)),
        (Bidirectional(Stack(jaxrnn.Embedding(6), GRU(3))), 1000),
        (jaxrnn.Residual(Stack(GRU(12))), 12),
        (Stack(Dropout(0.1)), 3),
    ]:
        check_fit(layer, blank(layer, size))


# ---- what parameters may be made of ----------------------------------------------------------------------------------

DTYPES = [f"{sign}int{bits}" for sign in ("", "u") for bits in (4, 8, 16, 32, 64)]
DTYPES += ["float16", "float32", "float64", "bfloat16", "complex64", "complex128", "bool"]
DTYPES += ["float8_e4m3fn", "float8_e5m2", "float8_e4m3fnuz", "float8_e3m4"]


def numbers(dtype, shape, seed=0):
    """Returns numbers with random bits, including NaN and infinities."""
    dtype = np.dtype(getattr(jnp, dtype))
    rng = np.random.default_rng(seed)
    if dtype.itemsize == 1:
        return np.asarray(rng.integers(-4, 5, shape)).astype(dtype)
    bits = rng.integers(0, 256, (*shape, dtype.itemsize), np.uint8)
    return np.frombuffer(bits.tobytes(), dtype).reshape(shape) if bits.size else np.zeros(shape, dtype)


@pytest.mark.parametrize("dtype", DTYPES)
def test_dtypes_come_back(dtype, path):
    params = {str(shape): jnp.asarray(numbers(dtype, shape)) for shape in [(), (3,), (0, 2), (2, 3, 4)]}
    assert {leaf.dtype.name for leaf in params.values()} == {dtype}
    comes_back(path, MGU(4), params, classes=[MGU])


def test_numbers_that_are_special_come_back(path):
    special = np.array([0.0, -0.0, np.inf, -np.inf, np.nan, 5e-324])
    params = [special, jnp.asarray(special[:2] * 1j), 3, -0.0, True, None, 1j, float("nan")]
    comes_back(path, MGU(4), params, classes=[MGU])


def test_arrays_of_numpy_in_any_order_come_back(path):
    square = np.arange(6.0).reshape(2, 3)
    params = [
        square.T,
        square[:, ::2],
        square.astype(">f8"),
        square.astype(">c16"),
        np.float32(2),
        np.asfortranarray(square),
        square[0, 0],
    ]
    _, loaded = comes_back(path, MGU(4), params, classes=[MGU])
    np.testing.assert_array_equal(loaded[2], square)
    np.testing.assert_array_equal(loaded[3], square)


def test_a_leaf_may_stand_in_two_places(path):
    w = jnp.arange(3.0)
    _, (one, other) = comes_back(path, MGU(4), (w, {"tied": w}), classes=[MGU])
    np.testing.assert_array_equal(one, other["tied"])


arrays = st.builds(numbers, st.sampled_from(DTYPES), st.sampled_from([(), (2,), (0,), (2, 1)]), st.integers(0, 99))
leaves = arrays | st.none() | st.integers() | st.floats() | st.complex_numbers() | st.booleans()
keys = st.text(st.characters(exclude_characters="/", exclude_categories=["Cs"]), max_size=3)
pytrees = st.recursive(
    leaves,
    lambda node: (
        st.lists(node, max_size=3)
        | st.lists(node, max_size=3).map(tuple)
        | st.dictionaries(keys, node, max_size=3)
        | st.builds(MGUParams, node, node)
        | st.builds(jaxrnn.cells.GRUState, node)
    ),
    max_leaves=8,
)


@settings(max_examples=60)
@given(pytrees)
def test_any_parameters_come_back(tmp_path_factory, params):
    path = tmp_path_factory.getbasetemp() / "any.safetensors"
    jaxrnn.save(path, MGU(4), params)
    layer, same = jaxrnn.load(path, classes=[MGU, MGUParams])
    assert layer == MGU(4)
    assert_same(params, same)


# ---- written at once or not at all -----------------------------------------------------------------------------------


@pytest.mark.parametrize("before", [False, True], ids=["new", "replaced"])
@pytest.mark.parametrize("failing", ["fsync", "replace", "interrupted"])
def test_a_failure_leaves_what_was_there(path, monkeypatch, before, failing):
    if before:
        jaxrnn.save(path, MGU(4), jnp.ones(3))
    there = {file.name: file.read_bytes() for file in path.parent.iterdir()}

    def fail(*args):
        raise KeyboardInterrupt if failing == "interrupted" else OSError("disk full")

    monkeypatch.setattr(*((Path, "replace") if failing == "replace" else (os, "fsync")), fail)
    with pytest.raises(KeyboardInterrupt if failing == "interrupted" else OSError):
        jaxrnn.save(path, MGU(5), jnp.zeros(3))
    assert {file.name: file.read_bytes() for file in path.parent.iterdir()} == there


def test_what_cannot_be_saved_leaves_what_was_there(path):
    jaxrnn.save(path, MGU(4), jnp.ones(3))
    content = path.read_bytes()
    with pytest.raises(TypeError):
        jaxrnn.save(path, MGU(4), [jnp.ones(3), object()])
    assert [file.read_bytes() for file in path.parent.iterdir()] == [content]


def test_a_link_stays_a_link_and_permissions_are_the_usual_ones(path):
    link = path.with_name("latest")
    link.symlink_to(path.name)
    jaxrnn.save(link, MGU(4), jnp.ones(3))
    jaxrnn.save(link, MGU(5), jnp.ones(3))
    assert link.is_symlink()
    assert jaxrnn.load(path, classes=[MGU])[0] == MGU(5)
    usual = path.with_name("usual")
    usual.touch()
    assert stat.S_IMODE(path.stat().st_mode) == stat.S_IMODE(usual.stat().st_mode)
    assert {file.name for file in path.parent.iterdir()} == {"latest", path.name, "usual"}


# ---- errors ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Counted(MGU):
    """A layer that its fields do not determine."""

    def __post_init__(self):
        object.__setattr__(self, "hidden_size", self.hidden_size + 1)


@dataclass(frozen=True, init=False)
class Renamed(MGU):
    """A layer whose constructor does not take its fields."""

    size: int = 0

    def __init__(self, n):
        for name, value in {"hidden_size": n, "option": None, "size": n}.items():
            object.__setattr__(self, name, value)


def nested(levels, value):
    for _ in range(levels):
        value = [value]
    return value


def other_mgu():
    return dataclasses.make_dataclass("MGU", [], bases=(MGU,), frozen=True)


def saving(layer=MGU(4), params=()):
    return lambda path: jaxrnn.save(path, layer, params)


ON_SAVING = {
    "a class": (
        TypeError,
        r"layer must be a jaxrnn layer or a cell over trees, but it .* did you mean LSTM\(\.\.\.\)\?",
        saving(LSTM),
    ),
    "a stranger": (TypeError, "layer must be a jaxrnn layer or a cell over trees, but it is 3$", saving(3)),
    "a lambda": (
        TypeError,
        "functions must have names .* but layers/layers_0/activation is <function <lambda>",
        saving(Stack(Elman(4, activation=lambda x: x))),
    ),
    "a partial": (
        TypeError,
        "a layer's fields must be values such as .* but option is functools.partial",
        saving(MGU(4, partial(squash))),
    ),
    "an array": (
        TypeError,
        r"a layer's fields must be values .* but option/layers_1 is an array of float64",
        saving(MGU(4, [1, np.ones(2)])),
    ),
    "a set": (TypeError, "a layer's fields must be values", saving(MGU(4, {1}))),
    "a string of NumPy": (TypeError, "a layer's fields must be values", saving(MGU(4, np.str_("a")))),
    "a key of NumPy": (
        TypeError,
        r"the keys of dicts must be numbers, strings or tuples of .* one is np\.int64\(1\): convert it",
        saving(MGU(4, {np.int64(1): 1})),
    ),
    "other than its fields": (
        ValueError,
        r"a layer must be equal to any other with the same fields, .* option=None\) is not",
        saving(Counted(4)),
    ),
    "NaN": (
        ValueError,
        r"a layer must be equal to any other with the same fields, .* option=nan\) is not",
        saving(MGU(4, float("nan"))),
    ),
    "two of a name": (
        ValueError,
        "classes and functions must have distinct names in a file, .* two are called MGU: rename one",
        saving(Stack(MGU(4), other_mgu()(4))),
    ),
    "a leaf": (
        TypeError,
        "parameters must be arrays of numbers, but b is <object .*: a file cannot hold it",
        saving(params=MGUParams(1, object())),
    ),
    "an array of objects": (
        TypeError,
        r"parameters must be arrays of numbers, but layers_0 is an array of object",
        saving(params=[np.array([None])]),
    ),
    "an array of strings": (TypeError, "parameters must be arrays", saving(params=[np.array(["a"])])),
    "text": (
        TypeError,
        "parameters must be arrays of numbers, but b is 'all.npy': a file cannot hold it",
        saving(params=MGUParams(np.ones(1), "all.npy")),
    ),
    "a function": (
        TypeError,
        "parameters must be arrays of numbers, but b is <function",
        saving(params={"b": no_step}),
    ),
    "a layer as parameters": (
        TypeError,
        r"parameters must be arrays of numbers, but b is LSTM\(hidden_size=4, ",
        saving(params={"b": LSTM(4)}),
    ),
    "parameters of another size": (
        ValueError,
        r"the parameters must be those of LSTM\(.*, but the shape of w_x must be \(3, 16\), but it is \(3, 20\)",
        saving(LSTM(4), blank(LSTM(5))),
    ),
    "parameters of another layer": (
        ValueError,
        r"the parameters must be those of GRU\(.*, but b_n is missing",
        saving(GRU(4), blank(LSTM(4))),
    ),
    "more parameters": (
        ValueError,
        r"the parameters must be those of Elman\(.*, but there is v, which it does not have",
        saving(Elman(4), {**blank(Elman(4))._asdict(), "v": np.ones(2)}),
    ),
    "parameters in another container": (
        ValueError,
        r"the parameters of Elman\(.*\) must have the structure .*ElmanParams.* but it is .*'w_x'",
        saving(Elman(4), blank(Elman(4))._asdict()),
    ),
    "lengths of other weights": (
        ValueError,
        r"the lengths of a Normalized must have the shape \(4,\), but it is \(3,\)",
        saving(Elman(4), blank(Elman(4))._replace(w_h=jaxrnn.weights.Normalized(np.ones(3), np.ones((4, 4))))),
    ),
    "no input size fits": (
        ValueError,
        r"the parameters must be those of .*, but it cannot draw any: MUT1 uses its input without",
        saving(Stack(jaxrnn.MUT1(3), jaxrnn.MUT1(4)), (blank(jaxrnn.MUT1(3)), blank(jaxrnn.MUT1(4), 4))),
    ),
    "too deep": (
        ValueError,
        r"values in a file must not be nested deeper than 100 levels, but layers_0/layers_0.* is$",
        saving(params=nested(200, np.ones(1))),
    ),
    "a constructor of its own": (
        ValueError,
        "layer: Renamed's constructor must take all fields, but it lacks hidden_size, option, size: give it a",
        saving(Renamed(4)),
    ),
    "a random key": (
        TypeError,
        "parameters must be arrays of numbers, but w is an array of key<fry>",
        saving(params=jax.random.key(0)),
    ),
    "only shapes": (TypeError, "parameters must be arrays", saving(params=jax.ShapeDtypeStruct((1,), "float32"))),
    "a taken name": (
        ValueError,
        "parameters must have distinct names in the file, but a/b is taken: rename it$",
        saving(params={"a": {"b": np.ones(1)}, "a/b": np.ones(1)}),
    ),
    "a reserved name": (ValueError, "but __metadata__ is taken", saving(params={"__metadata__": np.ones(1)})),
    "no folder": (FileNotFoundError, "model", lambda path: jaxrnn.save(path / "below", MGU(4), ())),
}


def edited(edit):
    """Loads a file of an LSTM whose JSON was edited."""

    def load(path):
        jaxrnn.save(path, Stack(LSTM(4)), blank(Stack(LSTM(4))))
        tensors = safetensors.numpy.load_file(path)
        with safetensors.safe_open(path, "numpy") as file:
            about = json.loads(file.metadata()["jaxrnn"])
        del about["sha256"]  # what is tested below is not found by the checksum
        about = edit(about, tensors) or about
        safetensors.numpy.save_file(tensors, path, {"jaxrnn": about if isinstance(about, str) else json.dumps(about)})
        return jaxrnn.load(path)

    return load


def with_layer(**layer):
    return edited(lambda about, _: about | {"layer": layer})


def with_lstm(name="jaxrnn.LSTM", **fields):
    return with_layer(**{"class": name, "fields": fields})


def written(content):
    return lambda path: (path.write_bytes(content), jaxrnn.load(path))


def foreign(path):
    safetensors.numpy.save_file({"w": np.ones(1)}, path, {"format": "pt"})
    jaxrnn.load(path)


def own(path, *classes):
    jaxrnn.save(path, Stack(MGU(4)), (MGUParams(np.ones(2)),))
    jaxrnn.load(path, classes=classes)


def narrow(path):
    jaxrnn.save(path, LSTM(4), draw_params(LSTM(4)))
    with jax.enable_x64(False):
        jaxrnn.load(path)


LSTM_JSON = {"class": "jaxrnn.LSTM", "fields": {"hidden_size": 4}}


def with_params(edit):
    """Loads a file whose JSON of an LSTM's parameters was edited."""
    return edited(lambda about, _: edit(about["params"]["tuple"][0]["fields"]))


def with_number(edit):
    """Loads a file whose JSON of LSTM's hidden size was edited, and nothing else."""
    return edited(lambda about, _: about["layer"]["fields"]["layers"]["tuple"][0]["fields"].update(hidden_size=edit))


def of_a_later_version(path):
    jaxrnn.save(path, Elman(2, activation=jnp.tanh), blank(Elman(2)))
    data = path.read_bytes().replace(b"jax.numpy.tanh", b"jax.numpy.save").replace(b'\\"sha256', b'\\"sha257')
    path.write_bytes(data)
    jaxrnn.load(path)


def flipped(path, place=-1):
    jaxrnn.save(path, LSTM(4), blank(LSTM(4)))
    data = bytearray(path.read_bytes())
    data[place] ^= 1
    path.write_bytes(data)
    jaxrnn.load(path)


def deep(path, start, end, levels=200):
    jaxrnn.save(path, LSTM(4), blank(LSTM(4)))
    tensors = safetensors.numpy.load_file(path)
    about = '{"format": 1, "layer": ' + levels * start + "1" + levels * end + ', "params": []}'
    safetensors.numpy.save_file(tensors, path, {"jaxrnn": about})
    jaxrnn.load(path)


BAD = "model.safetensors cannot be loaded: "
ON_LOADING = {
    "no file": (FileNotFoundError, "model.safetensors", jaxrnn.load),
    "nothing": (
        ValueError,
        BAD + "not a complete safetensors file: .*[Hh]eader",
        written(b""),
    ),
    "another format": (
        ValueError,
        BAD + "not a complete safetensors file: .*[Hh]eader",
        written(b"PK\x03\x04" + bytes(500)),
    ),
    "of another program": (
        ValueError,
        BAD + r"it was not written by jaxrnn\.save, so it .* and see jaxrnn\.convert",
        foreign,
    ),
    "no JSON": (ValueError, BAD + "its metadata cannot be read: .*Exp", edited(lambda about, _: "{")),
    "no format": (
        ValueError,
        BAD + "the format in its metadata must be a positive integer, but it is None",
        edited(lambda about, _: {"a": 1}),
    ),
    "no layer in it": (
        ValueError,
        BAD + r"its metadata must have the fields format, layer and params, but it has \['format'\]",
        edited(lambda a, _: {"format": 1}),
    ),
    "no object": (
        ValueError,
        BAD + r"its metadata must be a JSON object, but it is \[\]",
        edited(lambda about, _: "[]"),
    ),
    "a flipped bit": (ValueError, BAD + "it is damaged, its contents do not match its checksum", flipped),
    "another field of the metadata": (
        ValueError,
        BAD + "its metadata must have the fields format, layer and params, but it has .*'sha257'",
        of_a_later_version,
    ),
    "deep lists": (
        ValueError,
        BAD + "layer/layers_0/.* must not be nested deeper than 100 levels",
        lambda path: deep(path, "[", "]"),
    ),
    "deep tuples": (
        ValueError,
        BAD + "layer/layers_0/.* must not be nested deeper than 100 levels",
        lambda path: deep(path, '{"tuple": [', "]}"),
    ),
    "deep fields": (
        ValueError,
        BAD + "layer/a/a/.* must not be nested deeper than 100 levels",
        lambda path: deep(path, '{"class": "jaxrnn.LSTM", "fields": {"a": ', "}}"),
    ),
    "deeper than any parser reads": (
        ValueError,
        BAD + "(its metadata cannot be read: RecursionError|layer/.* must not be nested)",
        lambda path: deep(path, "[", "]", levels=200_000),
    ),
    "newer": (
        ValueError,
        r"model\.safetensors cannot be loaded: its format is 2, but .* formats up to 1: upgrade jaxrnn",
        edited(lambda about, _: {"format": 2}),
    ),
    "not a layer": (
        ValueError,
        r"model\.safetensors cannot be loaded: layer must be a .* or a cell over trees, but it is 3",
        edited(lambda about, _: about | {"layer": 3}),
    ),
    "not a layer but a state": (
        ValueError,
        r"model\.safetensors cannot be loaded: layer must be a .* but it is LSTMState\(h=1, c=2\)",
        with_lstm("jaxrnn.LSTMState", h=1, c=2),
    ),
    "a tensor as layer": (
        ValueError,
        BAD + r"a layer must not hold tensors, but layer is .* 'float64', 'shape': \[16\]\}",
        edited(lambda about, _: about | {"layer": about["params"]["tuple"][0]["fields"]["b"]}),
    ),
    "a missing tensor": (
        ValueError,
        BAD + "it needs the tensor layers_0/w_h, which is missing",
        edited(lambda about, tensors: [about, tensors.pop("layers_0/w_h")][0]),
    ),
    "another shape": (
        ValueError,
        BAD + r"the tensor layers_0/b must be F64 \(16,\), but it is F64 \[15\]",
        edited(lambda about, tensors: tensors.update({"layers_0/b": np.ones(15)})),
    ),
    "another dtype": (
        ValueError,
        BAD + r"the tensor layers_0/b must be F64 \(16,\), but it is F32 \[16\]",
        edited(lambda about, tensors: tensors.update({"layers_0/b": np.ones(16, np.float32)})),
    ),
    "a class of ours to come": (
        ValueError,
        BAD + r"layer: it needs jaxrnn\.XLSTM, .* was written by another version",
        with_lstm("jaxrnn.XLSTM", hidden_size=4),
    ),
    "another field": (
        ValueError,
        BAD + "layer: LSTM has no field peepholes .* saved by another version",
        with_lstm(hidden_size=4, peepholes=True),
    ),
    "a missing field": (ValueError, BAD + "layer: LSTM needs the field hidden_size, which is missing", with_lstm()),
    "a missing field of a stack": (
        ValueError,
        BAD + "layer: Stack needs the field layers, which is missing",
        with_lstm("jaxrnn.Stack"),
    ),
    "a bad field": (
        ValueError,
        BAD + "layer: LSTM's hidden_size must be a positive integer, but it is '4'",
        with_lstm(hidden_size="4"),
    ),
    "a bad field inside": (
        ValueError,
        BAD + "layer/layers/layers_0: LSTM's hidden_size must be a positive integer, but it is 0",
        with_number(0),
    ),
    "another size": (
        ValueError,
        BAD
        + r"the parameters must be those of .*, but the shape of layers_0/w_x must be \(3, 20\), but it is \(3, 16\)",
        with_number(5),
    ),
    "an empty stack": (
        ValueError,
        BAD + "layer: Stack's layers must be one or more jaxrnn layers",
        with_lstm("jaxrnn.Stack", layers={"tuple": []}),
    ),
    "a stack of a number": (
        ValueError,
        BAD + "layer: Stack's layers must be a tuple, but it is 5",
        with_lstm("jaxrnn.Stack", layers=5),
    ),
    "a stack of numbers": (
        ValueError,
        BAD + "layer: Stack's layers must be jaxrnn layers, but one is 5",
        with_lstm("jaxrnn.Stack", layers={"tuple": [5]}),
    ),
    "a merge that is a number": (
        ValueError,
        BAD + "layer: Bidirectional's merge must be a function, but it is 5",
        with_lstm("jaxrnn.Bidirectional", forward=LSTM_JSON, merge=5),
    ),
    "fields in a list": (
        ValueError,
        BAD + r"layer's fields must be a JSON object, but they are \[4\]",
        with_layer(**{"class": "jaxrnn.LSTM", "fields": [4]}),
    ),
    "a class without a name": (
        ValueError,
        BAD + "layer must be the name of a class or function, but it is 5",
        with_lstm(5, hidden_size=4),
    ),
    "a tuple of no list": (ValueError, BAD + "layer must be a list, but it is 5", with_layer(tuple=5)),
    "a complex number of three parts": (
        ValueError,
        BAD + r"layer must be a real and an imaginary part, but it is \[1, 2, 3\]",
        with_layer(complex=[1, 2, 3]),
    ),
    "a dict of no pairs": (
        ValueError,
        BAD + "layer must be pairs of a key and a value, but it is .1",
        with_layer(dict=[1]),
    ),
    "a key that is a list": (
        ValueError,
        BAD + r"the keys of layer must be numbers, strings or tuples of them, but they are \[\[\]\]",
        with_layer(dict=[[[], 1]]),
    ),
    "text as parameters": (
        ValueError,
        BAD + "parameters must be arrays of numbers, but layers_0/b is '/tmp/all.npy'",
        with_params(lambda lstm: lstm.update(b="/tmp/all.npy")),
    ),
    "a function as parameters": (
        ValueError,
        BAD + "parameters must be arrays of numbers, but layers_0/b is <",
        with_params(lambda lstm: lstm.update(b={"name": "jax.nn.relu"})),
    ),
    "a layer as parameters": (
        ValueError,
        BAD + "parameters must be arrays of numbers, but layers_0/b is LSTM",
        with_params(lambda lstm: lstm.update(b=LSTM_JSON)),
    ),
    "half a tensor": (
        ValueError,
        BAD + "params/layers_0/b must be a tensor with its dtype and shape, but it is {'tensor'",
        with_params(lambda lstm: lstm.update(b={"tensor": "layers_0/b"})),
    ),
    "no dtype": (
        ValueError,
        BAD + "the dtype of layers_0/b must be one of jax.numpy, but it is 'save'",
        with_params(lambda lstm: lstm["b"].update(dtype="save")),
    ),
    "a function that writes": (
        ValueError,
        BAD + r"layer: it needs jax\.numpy\.save, which is .* if you trust .* classes=\[jax.numpy.save, \.\.\.\]",
        with_layer(name="jax.numpy.save"),
    ),
    "a function of ours": (ValueError, BAD + "layer: it needs jaxrnn.unroll, which", with_layer(name="jaxrnn.unroll")),
    "a function as class": (
        ValueError,
        BAD + "layer: <function concat .* is neither a dataclass nor a NamedTuple",
        with_lstm("jaxrnn.concat"),
    ),
    "a class of another kind": (
        ValueError,
        BAD + "layer: <class .* is neither a dataclass",
        with_lstm("jax.numpy.float32"),
    ),
    "a module": (ValueError, BAD + "layer: it needs jax.numpy.linalg, which is", with_layer(name="jax.numpy.linalg")),
    "a hidden name": (ValueError, BAD + "layer: it needs jaxrnn._Wrapper", with_layer(name="jaxrnn._Wrapper")),
    "a function of the system": (ValueError, BAD + "layer: it needs os.system, which is", with_layer(name="os.system")),
    "an unknown operator": (
        ValueError,
        BAD + "layer: it needs operator.attrgetter",
        with_layer(name="operator.attrgetter"),
    ),
    "an unknown kind": (ValueError, BAD + "a layer must not hold tensors, but layer is {'eval'", with_layer(eval="1")),
    "own classes": (
        ValueError,
        BAD + r"layer/layers/layers_0: it needs MGU, which is not known here: give .* classes=\[MGU, \.\.\.\]",
        own,
    ),
    "one of two own classes": (ValueError, BAD + "params/layers_0: it needs MGUParams", lambda path: own(path, MGU)),
    "two own classes": (
        ValueError,
        "classes and functions must have distinct names in a file, .* two are called MGU: rename one",
        lambda path: own(path, MGU, other_mgu()),
    ),
    "own classes, no list": (
        TypeError,
        "classes must be a list of classes and functions, but it is 5",
        lambda path: jaxrnn.load(path, classes=5),
    ),
    "own classes, no class": (
        TypeError,
        "classes must hold classes and functions, but it holds 'MGU'",
        lambda path: own(path, "MGU"),
    ),
    "float64": (
        ValueError,
        BAD + r"the dtype of w_x is float64, .*'jax_enable_x64', True\)$",
        narrow,
    ),
}


@pytest.mark.parametrize("name", [*ON_SAVING, *ON_LOADING])
def test_error(name, path):
    kind, message, call = (ON_SAVING | ON_LOADING)[name]
    with pytest.raises(kind, match=message) as error:
        call(path)
    assert "\n" not in str(error.value)
    assert name in ON_LOADING or not [*path.parent.iterdir()]


@pytest.mark.slow
def test_every_message_is_tested(tmp_path_factory):
    root = Path(jaxrnn.__file__).parent
    found = list(raises([*(root / "_saving").glob("*.py"), root / "_tensor_files.py"]))
    assert len(found) > 40
    calls = [
        partial(call, tmp_path_factory.mktemp("error") / "model.safetensors")
        for kind, _, call in (ON_SAVING | ON_LOADING).values()
        if kind is not FileNotFoundError
    ]
    missing = untested(found, calls)
    assert all("need the package safetensors" in where for where in missing), missing  # tested below


@pytest.mark.parametrize("call", [saving(), jaxrnn.load])
def test_the_package_that_is_needed(call, path, monkeypatch):
    path.touch()
    monkeypatch.setitem(sys.modules, "safetensors", None)
    monkeypatch.delitem(sys.modules, "safetensors.numpy")
    with pytest.raises(
        ImportError, match=r"save, load and .* need the package safetensors: pip install 'jaxrnn\[save\]'"
    ):
        call(path)


def test_every_part_of_a_file_is_refused(path):
    jaxrnn.save(path, Stack(Elman(1)), blank(Stack(Elman(1)), input_size=1))
    content = path.read_bytes()
    for length in range(len(content)):
        path.write_bytes(content[:length])
        with pytest.raises(ValueError, match="not a complete safetensors file"):
            jaxrnn.load(path)


def test_a_forged_header_gives_one_error_or_another_layer(path):
    """Replacing any letter, without a checksum that would notice, never causes a crash or another kind of error."""
    layer = Stack(Elman(1, activation=jax.nn.relu), Zoneout(LSTM(1), rate=jaxrnn.cells.LSTMState(0.1, 0.2)))
    jaxrnn.save(path, layer, blank(layer, input_size=1))
    forge(path, path, lambda about: about)
    content = bytearray(path.read_bytes())
    header, refused, rng = 8 + int.from_bytes(content[:8], "little"), 0, np.random.default_rng(0)
    positions = range(0, header, 5)
    for position in positions:
        damaged = content.copy()
        damaged[position] = rng.choice(list(b'0179aw"[{},:. '))
        path.write_bytes(damaged)
        try:
            loaded, _ = jaxrnn.load(path)
        except ValueError as error:
            refused += "model.safetensors" in str(error)
            loaded = layer
        assert isinstance(loaded, jaxrnn.Layer)
    assert refused > 0.8 * len(positions)


def forge(source, path, edit):
    """Writes a file without a checksum, as older versions did, whose description was edited."""
    tensors = safetensors.numpy.load_file(source)
    with safetensors.safe_open(source, "numpy") as file:
        about = json.loads(file.metadata()["jaxrnn"])
    del about["sha256"]
    safetensors.numpy.save_file(tensors, path, {"jaxrnn": json.dumps(edit(about))})


def swapped_offsets(content):
    """Yields files in which two tensors of the same dtype and shape have each other's contents."""
    header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
    names = [name for name in header if name != "__metadata__"]
    for one, other in itertools.combinations(names, 2):
        if all(header[one][key] == header[other][key] for key in ("dtype", "shape")):
            places = {one: header[other]["data_offsets"], other: header[one]["data_offsets"]}
            changed = header | {name: header[name] | {"data_offsets": place} for name, place in places.items()}
            text = json.dumps(changed, separators=(",", ":")).encode()
            yield len(text).to_bytes(8, "little") + text + content[8 + int.from_bytes(content[:8], "little") :]


def damaged_files(content, seed=0):
    """Yields damaged copies of a file: flipped bits, other bytes, exchanged blocks, parts, and swapped offsets."""
    rng = np.random.default_rng(seed)
    for position in rng.integers(0, len(content), 300):
        flipped = bytearray(content)
        flipped[position] ^= 1 << rng.integers(8)
        yield bytes(flipped)
    for _ in range(100):
        noisy = bytearray(content)
        for position in rng.integers(0, len(content), rng.integers(1, 20)):
            noisy[position] = rng.integers(256)
        yield bytes(noisy)
    for a, b in rng.integers(0, len(content) - 8, (50, 2)):
        exchanged = bytearray(content)
        exchanged[a : a + 8], exchanged[b : b + 8] = content[b : b + 8], content[a : a + 8]
        yield bytes(exchanged)
    for length in rng.integers(0, len(content), 50):
        yield content[:length]
        yield content[length:]
        yield content + content[:length]
    yield from swapped_offsets(content)


def assert_refused_or_the_same(load, content):
    """Loads damaged copies; each fails with one line, or what is loaded passes the checks of `load`."""
    messages = []
    files = [*damaged_files(content)]
    for damaged in files:
        try:
            load(damaged)
        except ValueError as error:
            messages.append(str(error))
    assert not any("\n" in message for message in messages)
    assert len(messages) > 0.9 * len(files)


def test_a_damaged_file_is_refused(path):
    layer = Bidirectional(Elman(2, activation=jax.nn.relu), merge=jnp.add)
    params = draw_params(layer)
    jaxrnn.save(path, layer, params)
    content = path.read_bytes()
    assert len([*swapped_offsets(content)]) >= 3

    def load(damaged):
        path.write_bytes(damaged)
        again, same = jaxrnn.load(path)
        assert again == layer
        assert_same(params, same)

    assert_refused_or_the_same(load, content)
    assert [*path.parent.iterdir()] == [path]


def test_damaged_bytes_of_a_state_are_refused():
    state = {"h": np.arange(4.0), "c": jnp.arange(4.0, dtype="bfloat16"), "z": np.ones(2) * 1j, "d": -np.arange(4.0)}
    content = state_bytes.to_bytes(state)
    assert_same(state, jax.tree.map(jnp.asarray, state_bytes.from_bytes(content, state)))
    assert len([*swapped_offsets(content)]) == 1
    assert_refused_or_the_same(
        lambda damaged: assert_same(state, jax.tree.map(jnp.asarray, state_bytes.from_bytes(damaged, state))), content
    )


def test_bytes_of_a_state_from_an_older_version():
    state = {"h": np.arange(4.0), "c": np.ones(2)}
    same = state_bytes.from_bytes(safetensors.numpy.save(state), state)
    assert_same(state, jax.tree.map(jnp.asarray, same))
