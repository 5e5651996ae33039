"""`Stream`: no sequence affects another one; and the cost of a step."""

import sys
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

import jaxrnn
from jaxrnn import GRU, LSTM, Dense, Dropout, LearnedInitialState, Residual, Stack, Stream, Zoneout, unroll
from jaxrnn._serving import programs
from jaxrnn._serving import stream as stream_module
from tests.support.cases import examples
from tests.support.comparisons import assert_close
from tests.support.inputs import INPUT, draw
from tests.support.messages import raises, untested

LAYERS = examples()


numpy_files = pytest.importorskip("safetensors.numpy")
pytestmark = pytest.mark.usefixtures("x64", "quick")


def draw_params(layer):
    """As those of the tables, but without what `init` compiles."""
    rng = np.random.default_rng(0)
    shapes = jax.eval_shape(lambda: layer.init(jax.random.key(0), INPUT))
    return jax.tree.map(lambda s: jnp.asarray(0.5 * rng.standard_normal(s.shape), s.dtype), shapes)


@dataclass(frozen=True)
class Pair(jaxrnn.Layer):
    """A cell with two inputs, numbers and symbols, and two outputs."""

    cell: jaxrnn.LSTM

    def init(self, key, input_size):
        return {name: self.cell.init(key, input_size) for name in ("a", "b")}

    def initial_state(self, params, batch_shape=(), dtype=None):
        return {name: self.cell.initial_state(params[name], batch_shape, dtype) for name in params}

    def run(self, params, xs, state, key, plan):
        ran = {name: self.cell.run(params[name], xs[name], state[name], key, plan) for name in ("a", "b")}
        return {name: s for name, (s, _) in ran.items()}, {name: ys for name, (_, ys) in ran.items()}


MODELS = {  # a layer, and whether it reads symbols beside numbers
    "numbers": (Stack(LearnedInitialState(LSTM(4)), Dropout(0.5), Residual(Zoneout(GRU(4))), Dense(2)), False),
    "both": (Pair(LSTM(3)), True),
}
SLOTS, LONGEST = 3, 32


def inputs(name, length, seed):
    """[length] steps."""
    numbers, symbols = draw(length, INPUT, seed=seed), np.random.default_rng(seed).integers(0, INPUT, length)
    return {"a": numbers, "b": symbols} if MODELS[name][1] else numbers


def cut(xs, *index):
    return jax.tree.map(lambda x: x[index], xs)


@partial(jax.jit, static_argnums=0)
def alone(layer, params, xs, length):
    return unroll(layer, params, xs, lengths=length)


def assert_alone(name, params, parts, outputs):
    """Asserts that the outputs, by the index of their step, equal those of one `unroll` over all parts."""
    xs = jax.tree.map(lambda *parts: np.concatenate(parts), inputs(name, 0, 0), *parts)
    length = len(jax.tree.leaves(xs)[0])
    padded = jax.tree.map(lambda x: np.pad(x, [(0, LONGEST - length)] + [(0, 0)] * (x.ndim - 1)), xs)
    state, expected = alone(MODELS[name][0], params, padded, length)
    for place, y in outputs:
        assert_close(y, cut(expected, place))
    return state


class Interleaved(RuleBasedStateMachine):
    """A stream that records the inputs and outputs of each sequence."""

    @initialize(name=st.sampled_from(sorted(MODELS)))
    def begin(self, name):
        self.name, self.params = name, draw_params(MODELS[name][0])
        self.stream, self.seed = Stream(MODELS[name][0], self.params, SLOTS), 0
        self.kept = []  # what was saved: (bytes, parts, outputs)
        self.there = {}  # by slot: (parts, outputs)

    def draw(self, length):
        self.seed += 1
        return inputs(self.name, length, self.seed)

    def fed(self, slot, xs, outputs):
        """Records the outputs of the last steps of `xs`."""
        parts, known = self.there[slot]
        parts.append(xs)
        length = sum(len(jax.tree.leaves(part)[0]) for part in parts)
        known += [(length - len(outputs) + n, y) for n, y in enumerate(outputs)]
        if length > LONGEST - 4:
            self.stream.remove(slot)
            self.check(slot)

    def check(self, slot):
        parts, outputs = self.there.pop(slot)
        return assert_alone(self.name, self.params, parts, outputs)

    def chosen(self, data):
        return data.draw(st.lists(st.sampled_from(self.stream.taken), unique=True, min_size=1))

    @precondition(lambda self: self.stream.free)
    @rule(data=st.data(), length=st.sampled_from([0, 3, 4]))
    def insert(self, data, length):
        kept = data.draw(st.sampled_from([None, *range(len(self.kept))]))
        state, parts, outputs = (None, [], []) if kept is None else self.kept[kept]
        prompt = self.draw(length)
        slot, y = self.stream.insert(prompt, state=state)
        assert slot not in self.there
        self.there[slot] = ([*parts], [*outputs])
        assert (y is None) == (length == 0)
        self.fed(slot, prompt, [y] if length else [])

    @precondition(lambda self: self.there)
    @rule(data=st.data())
    def step(self, data):
        chosen = self.chosen(data)
        xs = {slot: self.draw(1) for slot in chosen}
        others = [slot for slot in self.there if slot not in chosen]
        before = [self.stream.state(slot) for slot in others]
        ys = self.stream.step({slot: cut(x, 0) for slot, x in xs.items()})
        assert before == [self.stream.state(slot) for slot in others]
        assert [*ys] == chosen
        for slot in chosen:
            self.fed(slot, xs[slot], [ys[slot]])

    @precondition(lambda self: self.there)
    @rule(data=st.data())
    def step_all(self, data):
        chosen = self.chosen(data)
        xs = self.draw(SLOTS)
        fed = np.isin(np.arange(SLOTS), chosen)
        ys = jax.device_get(self.stream.step_all(xs, None if len(chosen) == len(self.there) else fed))
        assert all((leaf[~fed] == 0).all() for leaf in jax.tree.leaves(ys))
        for slot in chosen:
            self.fed(slot, cut(xs, slice(slot, slot + 1)), [cut(ys, slot)])

    @precondition(lambda self: self.there)
    @rule(data=st.data())
    def feed(self, data):
        xs = {slot: self.draw(data.draw(st.sampled_from([0, 3, 4]))) for slot in self.chosen(data)}
        ys = self.stream.feed(xs)
        assert [*ys] == [*xs]
        for slot, x in xs.items():
            length = len(jax.tree.leaves(x)[0])
            assert all(len(leaf) == length for leaf in jax.tree.leaves(ys[slot]))
            self.fed(slot, x, [cut(ys[slot], n) for n in range(length)])

    @precondition(lambda self: self.there)
    @rule(data=st.data(), how=st.sampled_from(["evict", "remove", "reset", "state"]))
    def leave(self, data, how):
        slot = data.draw(st.sampled_from(self.stream.taken))
        parts, outputs = self.there[slot]
        gave = getattr(self.stream, how)(slot)
        if gave is not None:
            self.kept.append((gave, [*parts], [*outputs]))
        if how != "state":
            self.check(slot)
        if how == "reset":
            self.there[slot] = ([], [])

    def teardown(self):
        for slot in getattr(self, "there", {}).copy():
            saved = numpy_files.load(self.stream.state(slot))
            state = jax.tree.leaves(self.check(slot))
            assert_close([*saved.values()], state) if len(saved) == 1 else None
            assert sum(leaf.size for leaf in saved.values()) == sum(leaf.size for leaf in state)
        if hasattr(self, "stream"):
            assert len(self.stream.taken) + len(self.stream.free) == SLOTS


Interleaved.TestCase.settings = settings(max_examples=12, stateful_step_count=25)
TestInterleaved = pytest.mark.usefixtures("x64", "quick")(Interleaved.TestCase)


CELLS_IN_TURN = Stack(  # of one state, of two, of two sizes, and all wrappers
    GRU(4),
    jaxrnn.ProjectedLSTM(4, 2),
    Zoneout(LSTM(4), rate=jaxrnn.cells.LSTMState(h=0.1, c=0.4)),
    jaxrnn.RecurrentDropout(jaxrnn.Elman(3), 0.5),
    LearnedInitialState(LSTM(3)),
    jaxrnn.Multiplicative(LSTM(3)),
    jaxrnn.Mogrifier(GRU(3), rounds=2),
    jaxrnn.FastSlow((GRU(3), GRU(3)), LSTM(2)),
    jaxrnn.Skip(GRU(3)),
)
SAME_SIZE = [LAYERS[name] for name in ("Residual", "Highway", "LayerNorm", "Dropout")]
LAYERS_IN_TURN = Stack(
    jaxrnn.Embedding(INPUT),
    *SAME_SIZE,
    *(LAYERS[name] for name in ("DenselyConnected", "Window", "Using", "Activation", "Dense")),
)


def test_no_causal_layer_is_left_out():
    causal = {type(layer) for layer in LAYERS.values() if layer.causal}
    assert {type(layer) for layer in LAYERS_IN_TURN.layers} == causal - {Stack}


@pytest.mark.parametrize("layer", [CELLS_IN_TURN, LAYERS_IN_TURN], ids=["cells", "layers"])
def test_every_causal_layer(layer):
    xs = draw(2, 7, INPUT) if layer == CELLS_IN_TURN else np.random.default_rng(0).integers(0, INPUT, (2, 7))
    params = draw_params(layer)
    expected = [jax.jit(unroll, static_argnums=0)(layer, params, x)[1] for x in xs]
    stream = Stream(layer, params, 2)
    one, _ = stream.insert()
    other, y = stream.insert(xs[1][:3])
    assert_close(y, expected[1][2])
    assert_close(stream.step({one: xs[0][0]}), {one: expected[0][0]})
    other, y = stream.insert(xs[1][3:], state=stream.evict(other))
    assert_close(y, expected[1][6])
    assert_close(stream.insert(xs[0][1:4], state=stream.evict(one))[1], expected[0][3])


def model(**how):
    layer = Stack(LSTM(4), Dense(2))
    params = draw_params(layer)
    return layer, params, Stream(layer, params, how.pop("slots", 4), **how)


def test_few_compilations():
    jax.clear_caches()
    _, params, stream = model(slots=8)
    for length in range(1, 10):
        slot, _ = stream.insert(draw(length, INPUT))
        stream.remove(slot)
    assert programs.feed_slots._cache_size() == 5  # 1, 2, 4, ..., 16
    taken = [stream.insert()[0] for _ in range(8)]
    for number in range(1, 9):
        stream.step({slot: np.zeros(INPUT) for slot in taken[:number]})
        stream.reset(taken[-1])
    assert programs.step_slots._cache_size() == 1
    again = Stream(Stack(LSTM(4), Dense(2)), params, 8)  # an equal layer
    again.insert(draw(5, INPUT))
    again.step({0: np.zeros(INPUT)})
    assert (programs.feed_slots._cache_size(), programs.step_slots._cache_size()) == (5, 1)


def test_the_states_are_updated_in_place():
    _, _, stream = model(slots=64)
    slot, _ = stream.insert(draw(3, INPUT))
    for call in (
        lambda: stream.step({slot: np.zeros(INPUT)}),
        lambda: stream.step_all(np.zeros((64, INPUT))),
        lambda: stream.feed({slot: np.zeros((3, INPUT))}),
        lambda: stream.insert(state=stream.state(slot)),
    ):
        before = jax.tree.leaves(stream._state)
        places = [leaf.unsafe_buffer_pointer() for leaf in before]
        call()
        assert all(leaf.is_deleted() for leaf in before)
        assert [leaf.unsafe_buffer_pointer() for leaf in jax.tree.leaves(stream._state)] == places
    assert stream.params[0].w_h.sum()  # and nothing else is given away


def test_a_step_is_one_program(monkeypatch):
    _, _, stream = model()
    slot, _ = stream.insert(draw(3, INPUT))
    xs = {slot: np.zeros(INPUT)}
    stream.step(xs)
    state, calls = stream._state, []
    monkeypatch.setattr(stream_module, "step_slots", lambda *args: calls.append(args) or (state, np.zeros((4, 2))))
    with jax.disable_jit(False), jax.log_compiles(False):
        ran = jax.make_jaxpr(lambda: stream.step(xs))()  # anything else that runs would be in it
    assert len(calls) == 1
    assert not ran.eqns


def test_a_call_that_raises_changes_nothing():
    _, _, stream = model()
    slot, _ = stream.insert(draw(3, INPUT))
    before = stream.state(slot)
    for call in (
        lambda: stream.step({slot: np.zeros(INPUT + 1)}),
        lambda: stream.feed({slot: np.zeros((2, INPUT + 1))}),
        lambda: stream.insert(np.zeros((2, INPUT + 1))),
        lambda: stream.insert(np.zeros((2, INPUT + 1)), state=before),
        lambda: stream.step_all(np.zeros((4, INPUT + 1))),
    ):
        with pytest.raises(ValueError, match="must have the input size of the parameters, 3"):
            call()
        assert stream.taken == [slot]
        assert stream.state(slot) == before


def test_nothing_leaks_between_slots():
    layer = Stack(LSTM(4), Dense(INPUT))
    params = draw_params(layer)
    stream = Stream(layer, params, 2)
    ill, well = stream.insert()[0], stream.insert()[0]
    xs = np.array([2, 1, 0])
    _, expected = unroll(layer, params, xs)
    ys = stream.step({ill: 9, well: xs[0]})  # 9 is no symbol
    assert np.isnan(ys[ill]).all()
    assert_close(ys[well], expected[0])
    assert_close(stream.feed({well: xs[1:]})[well], expected[1:])
    stream.reset(ill)
    assert_close(stream.feed({ill: xs})[ill], expected)


def test_bytes_are_a_safetensors_file_of_named_arrays():
    layer, params, stream = model()
    xs = draw(5, INPUT)
    slot, _ = stream.insert(xs)
    state, _ = unroll(layer, params, xs)
    saved = numpy_files.load(stream.state(slot))
    assert saved.keys() == {"layers_0/h", "layers_0/c"}
    assert_close([saved["layers_0/h"], saved["layers_0/c"]], state[0])
    stream.reset(slot)
    assert not any(leaf.any() for leaf in numpy_files.load(stream.state(slot)).values())


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_states_of_another_dtype(dtype):
    layer, params, stream = model(dtype=dtype)
    xs = draw(6, INPUT)
    slot, _ = stream.insert(xs[:3])
    slot, y = stream.insert(xs[3:], state=stream.evict(slot))
    assert {leaf.dtype for leaf in jax.tree.leaves(stream._state)} == {jnp.dtype(dtype)}
    _, ys = unroll(layer, params, xs, layer.initial_state(params, (), jnp.dtype(dtype)))
    assert_close(y, ys[-1])  # of the very same rounding: nothing is lost in the bytes


@dataclass(frozen=True)
class Turning(jaxrnn.Cell):
    """A complex state."""

    def init(self, key, input_size):
        return jnp.zeros(1)

    def initial_state(self, params, batch_shape=(), dtype=None):
        return jnp.ones(batch_shape, complex)

    def project(self, params, x, key=None):
        return x[..., 0]

    def step(self, params, state, z):
        return state * jnp.exp(1j * z)

    def readout(self, params, state, z):
        return state.real[..., None]


def test_complex_states():
    xs = draw(6, 1)
    stream = Stream(Turning(), jnp.zeros(1), 2)
    slot, _ = stream.insert(xs[:4])
    slot, y = stream.insert(xs[4:], state=stream.evict(slot))
    np.testing.assert_allclose(y, [np.cos(xs.sum())])


def test_the_slots_in_use():
    _, _, stream = model(slots=3)
    assert (stream.taken, stream.free) == ([], [0, 1, 2])
    assert [stream.insert()[0] for _ in range(3)] == [0, 1, 2]
    stream.remove(1)
    assert repr(stream).endswith("2 of 3 slots taken)")
    assert (stream.taken, stream.free) == ([0, 2], [1])
    assert stream.insert([]) == (1, None)
    assert stream.step({}) == stream.feed({}) == {}


def state_of(layer, **how):
    stream = Stream(layer, draw_params(layer), 1, **how)
    stream.insert()
    return stream.evict(0)


X = np.zeros(INPUT)
MODEL_FILE = (Path(__file__).parents[1] / "saving/version_0.1.0.safetensors").read_bytes()
ERRORS = {
    "not a layer": (
        TypeError,
        r"Stream's layer must be a jaxrnn layer, but it is <class .* did you mean LSTM\(\.\.\.\)\?",
        lambda s: Stream(LSTM, None, 2),
    ),
    "reads the future": (
        TypeError,
        r"Bidirectional\(.*\) reads the future: call unroll",
        lambda s: Stream(jaxrnn.Bidirectional(LSTM(4)), None, 2),
    ),
    "no slots": (
        ValueError,
        "Stream's slots must be a positive integer, but it is 0$",
        lambda s: Stream(LSTM(4), None, 0),
    ),
    "slots, a bool": (TypeError, "slots must be a positive", lambda s: Stream(LSTM(4), None, True)),
    "dtype": (
        TypeError,
        "dtype must be that of real or complex numbers or None, but it is 'wide'",
        lambda s: Stream(LSTM(4), None, 1, dtype="wide"),
    ),
    "dtype of integers": (
        TypeError,
        "dtype must be that of real or complex numbers or None, but it is <class 'int'>",
        lambda s: Stream(LSTM(4), None, 1, dtype=int),
    ),
    "text": (
        TypeError,
        "xs must be an array of numbers, but its dtype is <U1: cast it$",
        lambda s: s.insert(np.full((5, 3), "a")),
    ),
    "booleans": (
        TypeError,
        "xs must hold numbers or integer symbols, but its dtype is bool: cast it$",
        lambda s: s.insert(np.full((5, 3), True)),
    ),
    "complex numbers": (
        TypeError,
        r"LSTM\(.*\) needs real inputs, but a dtype is complex128: give the parts of xs as features, jnp\.concatenate",
        lambda s: s.insert(np.full((5, 3), 1j)),
    ),
    "full": (
        ValueError,
        "all 3 slots of the stream are taken: evict or remove a sequence first",
        lambda s: [s.insert() for _ in range(3)],
    ),
    "empty slot": (
        ValueError,
        r"slot 2 must hold a sequence, but the taken slots are \[0\]: call insert first$",
        lambda s: s.step({0: X, 2: X}),
    ),
    "no such slot": (
        ValueError,
        r"slot 3 must hold a sequence, but the taken slots are \[0\]: call insert first$",
        lambda s: s.feed({3: X[None]}),
    ),
    "negative slot": (
        ValueError,
        r"slot -3 must hold a sequence, but the taken slots are \[0\]: call insert first$",
        lambda s: s.evict(-3),
    ),
    "slot, a float": (
        ValueError,
        r"slot 0\.0 must hold a sequence, but the taken slots are \[0\]: call insert first$",
        lambda s: s.reset(0.0),
    ),
    "removed": (
        ValueError,
        r"slot 0 must hold a sequence, but the taken slots are \[\]: call insert first$",
        lambda s: [s.remove(0), s.state(0)],
    ),
    "fed to empty slots": (
        ValueError,
        r"slot 1 must hold a sequence, but the taken slots are \[0\]: call insert first$",
        lambda s: s.step_all(np.zeros((3, INPUT)), np.ones(3, bool)),
    ),
    "fed, numbers": (
        ValueError,
        r"fed must be booleans of shape \(3,\), but they are int64 \(3,\)",
        lambda s: s.step_all(np.zeros((3, INPUT)), [1, 0, 0]),
    ),
    "fed, shape": (ValueError, r"fed must be booleans", lambda s: s.step_all(np.zeros((3, INPUT)), np.ones(2, bool))),
    "all, shape": (
        ValueError,
        r"xs must have a first axis of all 3 slots, but the shapes are \[\(2, 3\)\]",
        lambda s: s.step_all(np.zeros((2, INPUT))),
    ),
    "not alike": (
        ValueError,
        r"the inputs of all slots must have the same structure, .* \[\['float64 \[3\]'\], \['int64 \[\]'\]\]",
        lambda s: [s.insert(), s.step({0: X, 1: 2})],
    ),
    "other shapes": (
        ValueError,
        r"the inputs of all slots must have the same structure, .* \[3\]'\], \['float64 \[2\]'\]\]",
        lambda s: [s.insert(), s.step({0: X, 1: X[:2]})],
    ),
    "other structure": (
        ValueError,
        r"the inputs of all slots must have the same structure, .* \[3\]'\], \['float64 \[3\]'\]\]",
        lambda s: [s.insert(), s.step({0: X, 1: {"a": X}})],
    ),
    "a list": (
        ValueError,
        r"must be arrays \[time, ...\] of one length, but they are \[1, 2\]",
        lambda s: s.insert([1, 2]),
    ),
    "two lengths": (ValueError, "of one length", lambda s: s.feed({0: {"a": X, "b": X[:2]}})),
    "no time": (
        ValueError,
        r"each step must have 1 feature axis, or be an integer .* the inputs are \[\['float64 \[\]'\]\]",
        lambda s: s.insert(X),
    ),
    "time in a step": (
        ValueError,
        r"each step must have 1 feature axis, or be an integer .* inputs are \[\['float64 \[1, 3\]'\]\]",
        lambda s: s.step({0: X[None]}),
    ),
    "no features": (
        ValueError,
        r"each step must have 1 feature axis, or be an integer .* the inputs are \[\['float64 \[\]'\]\]",
        lambda s: s.step_all(X),
    ),
    "not bytes": (
        TypeError,
        "state must be bytes, as state and evict return them, but it is 'text'$",
        lambda s: s.insert(state="text"),
    ),
    "no bytes": (
        ValueError,
        "state must be bytes from state or evict, but they are .*[Hh]eader",
        lambda s: s.insert(state=b""),
    ),
    "cut bytes": (ValueError, "are damaged", lambda s: s.insert(state=s.state(0)[:-1])),
    "a changed byte": (
        ValueError,
        "state must be bytes from state or evict, but they are damaged: .* do not match its checksum",
        lambda s: s.insert(state=s.state(0)[:-1] + b"@"),
    ),
    "a file of a model": (ValueError, "are damaged: not a state of this version", lambda s: s.insert(state=MODEL_FILE)),
    "more bytes": (ValueError, "are damaged", lambda s: s.insert(state=s.state(0) + b"0")),
    "other names": (
        ValueError,
        r"state must hold the arrays \{'c': \('F64', 4\), 'h': \('F64', .* but it holds \{'h': \('F64', 4\)\}",
        lambda s: s.insert(state=state_of(GRU(4))),
    ),
    "other shapes of a state": (
        ValueError,
        r"state must hold the arrays \{'c': \('F64', 4\), 'h': \('F64', .* \('F64', 5\), 'h': \('F64', 5\)\}",
        lambda s: s.insert(state=state_of(LSTM(5))),
    ),
    "other dtype of a state": (
        ValueError,
        r"state must hold the arrays \{'c': \('F64', 4\), 'h': \('F64', .* \('F32', 4\), 'h': \('F32', 4\)\}",
        lambda s: s.insert(state=state_of(LSTM(4), dtype="float32")),
    ),
}


def stream_of_three():
    stream = Stream(LSTM(4), draw_params(LSTM(4)), 3)
    stream.insert(np.ones((2, INPUT)))
    return stream


@pytest.mark.parametrize("name", ERRORS)
def test_error(name):
    kind, message, call = ERRORS[name]
    with pytest.raises(kind, match=message):
        call(stream_of_three())


def test_every_message_is_tested():
    found = list(raises((Path(jaxrnn.__file__).parent / "_serving").glob("*.py")))
    assert len(found) > 10
    missing = untested(found, (partial(call, stream_of_three()) for _, _, call in ERRORS.values()))
    assert all("the package safetensors" in where for where in missing), missing  # tested below


def test_without_safetensors(monkeypatch):
    _, _, stream = model()
    stream.insert(draw(3, INPUT))
    monkeypatch.setitem(sys.modules, "safetensors", None)
    monkeypatch.setitem(sys.modules, "safetensors.numpy", None)
    with pytest.raises(ImportError, match=r"the package safetensors: pip install 'jaxrnn\[save\]'"):
        stream.state(0)
    stream.remove(0)
