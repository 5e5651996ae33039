"""Files: any layer with its parameters comes back equal, bit for bit, or an error says why not."""

import dataclasses
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
from jaxrnn._names import to_dict
from jaxrnn._saving import json_values
from tests.support.cases import LOOPS, selected_layers
from tests.support.inputs import draw_params

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


def comes_back(path, layer, params=(), classes=()):
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
        Bidirectional(LSTM(4), merge=operator.add),
        Bidirectional(Bidirectional(LSTM(4), backward=GRU(2))),
        Zoneout(LSTM(4), rate=jaxrnn.cells.LSTMState(0.25, np.float32(0.1))),
        Zoneout(LSTM(4), rate=(0.1, 0.2)),
        Zoneout(LSTM(4), rate={"h": 0.1, "c": [0.2]}),
        jaxrnn.Highway(Stack(Dropout(0.5, shared=True), jaxrnn.Residual(Stack(GRU(2))))),
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
    ours = {(name, id(value)) for name, value in homes if json_values._is_ours(value)}
    assert len({name for name, _ in ours}) == len(ours)
    assert {type(layer).__name__ for layer in [*ALL.values(), *TREES]} <= json_values.KNOWN["jaxrnn"].keys()


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
    comes_back(path, LSTM(4), params)


def test_numbers_that_are_special_come_back(path):
    special = np.array([0.0, -0.0, np.inf, -np.inf, np.nan, 5e-324])
    comes_back(path, LSTM(4), [special, jnp.asarray(special[:2] * 1j), 3, -0.0, True, None, 1j, float("nan")])


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
    _, loaded = comes_back(path, LSTM(4), params)
    np.testing.assert_array_equal(loaded[2], square)
    np.testing.assert_array_equal(loaded[3], square)


def test_a_leaf_may_stand_in_two_places(path):
    w = jnp.arange(3.0)
    _, (one, other) = comes_back(path, LSTM(4), (w, {"tied": w}))
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
    jaxrnn.save(path, LSTM(4), params)
    layer, same = jaxrnn.load(path, classes=[MGUParams])
    assert layer == LSTM(4)
    assert_same(params, same)


# ---- written at once or not at all -----------------------------------------------------------------------------------


@pytest.mark.parametrize("before", [False, True], ids=["new", "replaced"])
@pytest.mark.parametrize("failing", ["fsync", "replace", "interrupted"])
def test_a_failure_leaves_what_was_there(path, monkeypatch, before, failing):
    if before:
        jaxrnn.save(path, LSTM(4), jnp.ones(3))
    there = {file.name: file.read_bytes() for file in path.parent.iterdir()}

    def fail(*args):
        raise KeyboardInterrupt if failing == "interrupted" else OSError("disk full")

    monkeypatch.setattr(*((Path, "replace") if failing == "replace" else (os, "fsync")), fail)
    with pytest.raises(KeyboardInterrupt if failing == "interrupted" else OSError):
        jaxrnn.save(path, LSTM(5), jnp.zeros(3))
    assert {file.name: file.read_bytes() for file in path.parent.iterdir()} == there


def test_what_cannot_be_saved_leaves_what_was_there(path):
    jaxrnn.save(path, LSTM(4), jnp.ones(3))
    content = path.read_bytes()
    with pytest.raises(TypeError):
        jaxrnn.save(path, LSTM(4), [jnp.ones(3), object()])
    assert [file.read_bytes() for file in path.parent.iterdir()] == [content]


def test_a_link_stays_a_link_and_permissions_are_the_usual_ones(path):
    link = path.with_name("latest")
    link.symlink_to(path.name)
    jaxrnn.save(link, LSTM(4), jnp.ones(3))
    jaxrnn.save(link, LSTM(5), jnp.ones(3))
    assert link.is_symlink()
    assert jaxrnn.load(path)[0] == LSTM(5)
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


def other_mgu():
    return dataclasses.make_dataclass("MGU", [], bases=(MGU,), frozen=True)


def saving(layer=LSTM(4), params=()):
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
    "no folder": (FileNotFoundError, "model", lambda path: jaxrnn.save(path / "below", LSTM(4), ())),
}


def edited(edit):
    """Loads a file of an LSTM whose JSON was edited."""

    def load(path):
        jaxrnn.save(path, Stack(LSTM(4)), draw_params(Stack(LSTM(4))))
        tensors = safetensors.numpy.load_file(path)
        with safetensors.safe_open(path, "numpy") as file:
            about = json.loads(file.metadata()["jaxrnn"])
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


BAD = "model.safetensors cannot be loaded: "
ON_LOADING = {
    "no file": (FileNotFoundError, "model.safetensors", jaxrnn.load),
    "nothing": (
        ValueError,
        r"model\.safetensors is not a complete safetensors file: .*[Hh]eader",
        written(b""),
    ),
    "another format": (
        ValueError,
        r"model\.safetensors is not a complete safetensors file: .*[Hh]eader",
        written(b"PK\x03\x04" + bytes(500)),
    ),
    "of another program": (
        ValueError,
        r"model\.safetensors was not written by jaxrnn\.save, so it .* and see jaxrnn\.convert",
        foreign,
    ),
    "no JSON": (ValueError, "is damaged, its metadata cannot be read: Exp", edited(lambda about, _: "{")),
    "no format": (ValueError, BAD + r"it is damaged, KeyError\('format'\)", edited(lambda about, _: {"a": 1})),
    "no layer in it": (ValueError, BAD + r"it is damaged, KeyError\('layer'\)", edited(lambda a, _: {"format": 1})),
    "no object": (ValueError, BAD, edited(lambda about, _: "[]")),
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
        r"model\.safetensors cannot be loaded: a layer must not hold .* 'float64', 'shape': \[16\]\}",
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
        r"model\.safetensors cannot be loaded: it needs jaxrnn\.XLSTM, .* was written by another version",
        with_lstm("jaxrnn.XLSTM", hidden_size=4),
    ),
    "another field": (
        ValueError,
        r"model\.safetensors cannot be loaded: LSTM has no field peepholes .* saved by another version",
        with_lstm(hidden_size=4, peepholes=True),
    ),
    "a missing field": (ValueError, BAD + ".*missing 1 required positional argument: 'hidden_size'", with_lstm()),
    "a missing field of a stack": (
        ValueError,
        BAD + "Stack needs the field layers, which is missing",
        with_lstm("jaxrnn.Stack"),
    ),
    "a bad field": (
        ValueError,
        BAD + "LSTM's hidden_size must be a positive integer, but it is '4'",
        with_lstm(hidden_size="4"),
    ),
    "a function as class": (
        ValueError,
        BAD + "<function concat .* is neither a dataclass nor a NamedTuple",
        with_lstm("jaxrnn.concat"),
    ),
    "a class of another kind": (ValueError, BAD + "<class .* is neither a dataclass", with_lstm("jax.numpy.float32")),
    "a module": (ValueError, BAD + "it needs jax.numpy.linalg, which is", with_layer(name="jax.numpy.linalg")),
    "a hidden name": (ValueError, BAD + "it needs jaxrnn._Wrapper", with_layer(name="jaxrnn._Wrapper")),
    "a function of the system": (ValueError, BAD + "it needs os.system, which is", with_layer(name="os.system")),
    "an unknown operator": (ValueError, BAD + "it needs operator.attrgetter", with_layer(name="operator.attrgetter")),
    "an unknown kind": (ValueError, BAD, with_layer(eval="1")),
    "own classes": (ValueError, BAD + r"it needs MGU, which is not known here: give .* classes=\[MGU, \.\.\.\]", own),
    "one of two own classes": (ValueError, BAD + "it needs MGUParams", lambda path: own(path, MGU)),
    "two own classes": (
        ValueError,
        "classes and functions must have distinct names in a file, .* two are called MGU: rename one",
        lambda path: own(path, MGU, other_mgu()),
    ),
    "own classes, no class": (
        TypeError,
        "classes must hold classes and functions, but it holds 'MGU'",
        lambda path: own(path, "MGU"),
    ),
    "float64": (
        ValueError,
        r"model\.safetensors cannot be loaded: the dtype of w_x is float64, .*'jax_enable_x64', True\)$",
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


@pytest.mark.parametrize("call", [saving(), jaxrnn.load])
def test_the_package_that_is_needed(call, path, monkeypatch):
    path.touch()
    monkeypatch.setitem(sys.modules, "safetensors", None)
    monkeypatch.delitem(sys.modules, "safetensors.numpy")
    with pytest.raises(ImportError, match=r"save and load need the package safetensors: pip install 'jaxrnn\[save\]'"):
        call(path)


def test_every_part_of_a_file_is_refused(path):
    jaxrnn.save(path, Stack(Elman(1)), draw_params(Stack(Elman(1)), input_size=1))
    content = path.read_bytes()
    for length in range(len(content)):
        path.write_bytes(content[:length])
        with pytest.raises(ValueError, match="is not a complete safetensors file"):
            jaxrnn.load(path)


def test_a_damaged_header_gives_one_error_or_another_layer(path):
    """Replacing any letter never causes a crash or another kind of error."""
    layer = Stack(Elman(1, activation=jax.nn.relu), Zoneout(LSTM(1), rate=jaxrnn.cells.LSTMState(0.1, 0.2)))
    jaxrnn.save(path, layer, draw_params(layer, input_size=1))
    content = bytearray(path.read_bytes())
    header, refused, rng = 8 + int.from_bytes(content[:8], "little"), 0, np.random.default_rng(0)
    for position in range(0, header, 2):
        damaged = content.copy()
        damaged[position] = rng.choice(list(b'0179aw"[{},:. '))
        path.write_bytes(damaged)
        try:
            loaded, _ = jaxrnn.load(path)
        except ValueError as error:
            refused += "model.safetensors" in str(error)
            loaded = layer
        assert isinstance(loaded, jaxrnn.Layer)
    assert refused > 0.8 * header / 2
