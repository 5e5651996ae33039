"""Layers as StableHLO artifacts by `jax.export`, run by a process that has no jaxrnn."""

import subprocess
import sys
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import export

import jaxrnn
from jaxrnn import GRU, LSTM, Bidirectional, Dense, LearnedInitialState, Stack, Using, unroll
from jaxrnn.loops import Deferred, Scan
from tests.support.cases import cases, examples, selected_cells, selected_layers
from tests.support.inputs import INPUT, draw
from tests.support.tiers import slow_but

pytest.importorskip("flatbuffers")
pytestmark = pytest.mark.usefixtures("quick")
CELLS = selected_cells()
ALL = selected_layers()
LAYERS = examples()

UNROLLED = {
    "lstm": LSTM(4),
    "bidirectional": Stack(Bidirectional(GRU(4)), GRU(3)),
    "symbols": Stack(jaxrnn.Embedding(5), GRU(4), Dense(INPUT)),
}
STEPPED = Stack(LearnedInitialState(LSTM(4)), GRU(3), Dense(2))
SHAPES = {"lstm": [(5, 3), (2, 1)], "bidirectional": [(5, 3)], "symbols": [(4, 2)]}  # time and batch

WITHOUT_JAXRNN = """
import sys
sys.modules["jaxrnn"] = None  # importing it is an error
from pathlib import Path
import numpy as np
import jax
from jax import export

def load(name):
    return export.deserialize(bytearray(Path(name).read_bytes())).call

given, made = dict(np.load("given.npz")), {}
for name in given:
    kind, layer, *n = name.split(" ")
    if kind == "xs":
        call, lengths = load("unroll " + layer), given[" ".join(["lengths", layer, *n])]
        made[" ".join(["ys", layer, *n])] = call(given[name], lengths)
        if layer == "bidirectional":
            gradient = jax.grad(lambda xs: (call(xs, lengths) ** 2).sum())(given[name])
            made[" ".join(["gradient", layer, *n])] = gradient
    if kind == "stream":
        call = load("step")
        state = [np.full((given[name].shape[1], *shape), np.nan, np.float32) for shape in STATE]
        ys = []
        for x, reset in zip(given[name], given["resets " + layer]):
            state, y = call(state, x, reset)
            ys.append(y)
        made["stepped " + layer] = np.stack(ys)
leaves = [given[f"leaf {n}"] for n in range(sum(name.startswith("leaf ") for name in given))]
call = load("loss")
made["loss"] = call(leaves, given["xs lstm 0"])
for n, gradient in enumerate(jax.grad(call)(leaves, given["xs lstm 0"])):
    made[f"by {n}"] = gradient
np.savez("made.npz", **made)
try:
    import jaxrnn
except ImportError:
    print("without jaxrnn")
"""


def draw_params(layer):
    rng = np.random.default_rng(0)
    shapes = jax.eval_shape(lambda: layer.init(jax.random.key(0), INPUT))
    return jax.tree.map(lambda s: jnp.asarray(0.5 * rng.standard_normal(s.shape), s.dtype), shapes)


def inputs(name, time, batch):
    if name == "symbols":
        return np.random.default_rng(0).integers(0, INPUT, (time, batch)).astype(np.int32)
    return draw(time, batch, INPUT).astype(np.float32)


def exported_unroll(layer, symbols=False, gradients=0):
    """The outputs of a layer whose parameters are constants of the artifact, of any time and batch."""
    params = draw_params(layer)

    @jax.jit
    def predict(xs, lengths):
        return unroll(layer, params, xs, lengths=lengths, loop=Scan())[1]

    time, batch = export.symbolic_shape("time, batch")
    shape, dtype = ((time, batch), "int32") if symbols else ((time, batch, INPUT), "float32")
    xs = jax.ShapeDtypeStruct(shape, dtype)
    return export.export(predict)(xs, jax.ShapeDtypeStruct((batch,), "int32")).serialize(vjp_order=gradients)


def exported_step(layer):
    """One step, with the state as a list of its arrays, so that whoever runs it need not know our NamedTuples."""
    params = draw_params(layer)
    (batch,) = export.symbolic_shape("batch")
    structure = jax.tree.structure(jax.eval_shape(layer.initial_state, params))

    @jax.jit
    def step(state, x, reset):  # reset [batch]: True begins a sequence from any state
        state = jax.tree.unflatten(structure, state)
        state, ys = unroll(layer, params, x[None], state, resets=reset[None], loop=Scan())
        return jax.tree.leaves(state), ys[0]

    one = jax.tree.leaves(jax.eval_shape(layer.initial_state, params))
    state = [jax.ShapeDtypeStruct((batch, *s.shape), s.dtype) for s in one]
    x, reset = jax.ShapeDtypeStruct((batch, INPUT), "float32"), jax.ShapeDtypeStruct((batch,), "bool")
    return export.export(step)(state, x, reset).serialize()


def loss(layer, structure, leaves, xs):
    return (unroll(layer, jax.tree.unflatten(structure, leaves), xs, loop=Deferred())[1] ** 2).sum()


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """What a process without jaxrnn computed, and what it was given."""
    folder = tmp_path_factory.mktemp("exported")
    given = {}
    for name, layer in UNROLLED.items():
        gradients = int(name == "bidirectional")
        (folder / f"unroll {name}").write_bytes(exported_unroll(layer, name == "symbols", gradients))
        for n, (time, batch) in enumerate(SHAPES[name]):
            given[f"xs {name} {n}"] = inputs(name, time, batch)
            given[f"lengths {name} {n}"] = np.array([time, 0, time - 1][:batch], np.int32)
    (folder / "step").write_bytes(exported_step(STEPPED))
    for n, (time, batch) in enumerate(SHAPES["lstm"]):
        given[f"stream {n}"] = draw(time, batch, INPUT).astype(np.float32)
        given[f"resets {n}"] = np.concatenate([np.ones((1, batch), bool), draw(time - 1, batch) > 0.5])
    leaves, structure = jax.tree.flatten(draw_params(LSTM(4)))  # parameters that the caller brings; the default loop
    compiled = jax.jit(partial(loss, LSTM(4), structure))
    shape = jax.ShapeDtypeStruct(given["xs lstm 0"].shape, "float32")
    (folder / "loss").write_bytes(export.export(compiled)(leaves, shape).serialize(vjp_order=1))
    given |= {f"leaf {n}": leaf for n, leaf in enumerate(leaves)}
    np.savez(folder / "given.npz", **given)
    shapes = [s.shape for s in jax.tree.leaves(jax.eval_shape(STEPPED.initial_state, draw_params(STEPPED)))]
    code = f"STATE = {shapes}\n{WITHOUT_JAXRNN}"
    command = [sys.executable, "-I", "-c", code]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "without jaxrnn\n"
    return given | dict(np.load(folder / "made.npz"))


def assert_close(one, other):
    assert one.shape == other.shape
    np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-5 * np.abs(other).max())


@pytest.mark.parametrize(("name", "n"), [(name, n) for name, shapes in SHAPES.items() for n in range(len(shapes))])
def test_unroll(made, name, n):
    layer, xs, lengths = UNROLLED[name], made[f"xs {name} {n}"], made[f"lengths {name} {n}"]
    params = draw_params(layer)
    _, expected = unroll(layer, params, xs, lengths=lengths)
    assert_close(made[f"ys {name} {n}"], expected)
    if name == "bidirectional":
        gradient = jax.jit(jax.grad(lambda xs: (unroll(layer, params, xs, lengths=lengths)[1] ** 2).sum()))(xs)
        assert_close(made[f"gradient {name} {n}"], gradient)
        assert np.abs(gradient).max() > 1e-3


@pytest.mark.parametrize("n", [0, 1])
def test_step(made, n):
    _, expected = unroll(STEPPED, draw_params(STEPPED), made[f"stream {n}"], resets=made[f"resets {n}"])
    assert_close(made[f"stepped {n}"], expected)


def test_parameters_that_the_caller_brings_and_their_gradients(made):
    leaves, structure = jax.tree.flatten(draw_params(LSTM(4)))
    value, gradients = jax.jit(jax.value_and_grad(partial(loss, LSTM(4), structure)))(leaves, made["xs lstm 0"])
    assert_close(made["loss"], value)
    for n, gradient in enumerate(gradients):
        assert_close(made[f"by {n}"], gradient)
        assert np.abs(gradient).max() > 1e-3


# For an export it does not matter which cell it is.
WRAPPERS = [name for name, case in CELLS.items() if not type(case.cell).__module__.startswith("jaxrnn.cells")]


@pytest.mark.parametrize("name", slow_but(["LSTM", *WRAPPERS, *LAYERS], ["LSTM"]))
def test_every_layer_of_any_time_and_batch(name):
    layer = ALL[name]
    if isinstance(layer, Using):  # `Scan(unroll=2)` must know whether there are two steps
        layer = Using(layer.layer, Scan())
    again = export.deserialize(exported_unroll(layer, symbols=name == "Embedding"))
    assert str(again.out_avals[0].shape[:2]) == "(time, batch)"
    if layer.causal and name != "Embedding":
        assert str(export.deserialize(exported_step(layer)).out_avals[-1].shape[0]) == "batch"


@pytest.mark.slow
def test_for_other_platforms():
    layer, params = LSTM(4), draw_params(LSTM(4))
    predict = jax.jit(lambda xs: unroll(layer, params, xs, loop=Deferred())[1])
    shape = jax.ShapeDtypeStruct((5, 2, INPUT), "float32")
    made = export.export(predict, platforms=["cpu", "cuda", "tpu"])(shape)
    again = export.deserialize(made.serialize())
    assert again.platforms == ("cpu", "cuda", "tpu")
    xs = inputs("lstm", 5, 2)
    assert_close(again.call(xs), unroll(layer, params, xs)[1])


def named_step(cell, params):
    step = jax.jit(lambda params, state, x: jaxrnn.step(cell, params, state, x))
    return export.export(step)(params, cell.initial_state(params, (3,)), jnp.zeros((3, INPUT))).serialize()


def test_parameters_and_states_as_they_are():
    params, x = draw_params(LSTM(4)), inputs("lstm", 3, INPUT)[0]
    call = export.deserialize(named_step(LSTM(4), params)).call
    state = LSTM(4).initial_state(params, (3,))
    found, y = call(params, state, x)
    expected, _ = jaxrnn.step(LSTM(4), params, state, x)
    assert type(found) is type(expected)
    assert_close(found.c, expected.c)
    assert_close(y, expected.h)


NAMED = """
import sys
sys.modules["jaxrnn"] = None  # importing it is an error
from collections import namedtuple
import numpy as np
from jax import export

data = bytearray(open("step", "rb").read())
try:
    export.deserialize(data)
except ValueError as error:
    print("unregistered type `jaxrnn.LSTMParams`" in str(error))
register = export.register_namedtuple_serialization
LSTMParams = register(namedtuple("LSTMParams", "w_x w_h b"), serialized_name="jaxrnn.LSTMParams")
LSTMState = register(namedtuple("LSTMState", "h c"), serialized_name="jaxrnn.LSTMState")
arrays = np.load("arrays.npz")
params = LSTMParams(arrays["w_x"], arrays["w_h"], arrays["b"])
state, y = export.deserialize(data).call(params, LSTMState(arrays["h"], arrays["c"]), arrays["x"])
print(type(state) is LSTMState)
np.savez("made.npz", y=y, c=state.c)
"""


def test_named_tuples_of_a_process_without_jaxrnn(tmp_path):
    params, x = draw_params(LSTM(4)), inputs("lstm", 3, INPUT)[0]
    state = LSTM(4).initial_state(params, (3,))
    (tmp_path / "step").write_bytes(named_step(LSTM(4), params))
    np.savez(tmp_path / "arrays.npz", x=x, **params._asdict(), **state._asdict())
    command = [sys.executable, "-I", "-c", NAMED]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert done.stdout == "True\nTrue\n", done.stderr
    made = np.load(tmp_path / "made.npz")
    expected, y = jaxrnn.step(LSTM(4), params, state, x)
    assert_close(made["y"], y)
    assert_close(made["c"], expected.c)


def test_the_parameters_and_the_state_of_every_layer_can_be_serialized():
    layers = [(case.cell, case.reference.input_size) for case in cases().values()]
    layers += [(layer, INPUT) for layer in LAYERS.values()]

    def describe(layer, input_size):
        params = layer.init(jax.random.key(0), input_size)
        return params, layer.initial_state(params, (2,))

    trees = [jax.eval_shape(partial(describe, *layer)) for layer in layers]
    again = export.deserialize(export.export(jax.jit(lambda trees: trees))(trees).serialize())
    assert again.in_tree == jax.tree.structure(((trees,), {}))
    assert again.out_tree == jax.tree.structure(trees)


def test_a_state_of_ones_own_is_registered_in_one_line():
    class Counted(NamedTuple):
        h: jax.Array

    export.register_namedtuple_serialization(Counted, serialized_name="tests.Counted")
    exported = export.export(jax.jit(lambda state: Counted(state.h + 1)))(Counted(jnp.zeros(2)))
    assert export.deserialize(exported.serialize()).call(Counted(jnp.ones(2))).h.tolist() == [2, 2]


@dataclass(frozen=True)
class Counter(jaxrnn.Cell):
    """Ignores its input."""

    def init(self, key, input_size):
        return jnp.ones(())

    def initial_state(self, params, batch_shape=(), dtype=None):
        return jnp.zeros(batch_shape)

    def project(self, params, x, key=None):
        return ()

    def step(self, params, state, z):
        return state + params

    def readout(self, params, state, z):
        return state[..., None]


@pytest.mark.parametrize("loop", [Scan(), Deferred()], ids=repr)
def test_any_time_for_a_cell_that_ignores_its_input(loop):
    time, batch = export.symbolic_shape("time, batch")
    run = jax.jit(lambda xs: unroll(Counter(), jnp.ones(()), xs, loop=loop)[1])
    exported = export.export(run)(jax.ShapeDtypeStruct((time, batch, INPUT), jnp.float32))
    for n in (1, 4):
        ys = exported.call(jnp.zeros((n, 2, INPUT), jnp.float32))
        np.testing.assert_array_equal(ys, np.tile(np.arange(1, n + 1)[:, None, None], (1, 2, 1)))
