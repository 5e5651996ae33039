"""`Auto`: which loop it chooses and why, and that it is the default loop."""

import importlib.util
import inspect
import subprocess
import sys
from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxrnn
from jaxrnn.loops import Auto, Chunked, Deferred, Native, Scan, auto
from jaxrnn.loops import native as native_package
from tests.support.cases import cases
from tests.support.comparisons import assert_close
from tests.support.native import REFUSED, arguments, input_size_of
from tests.support.tiers import slow_but

pytestmark = pytest.mark.usefixtures("quick")

HAS_LLVM = importlib.util.find_spec("llvmlite") is not None
needs_llvm = pytest.mark.skipif(not HAS_LLVM, reason="llvmlite is not installed")
XS = jax.random.normal(jax.random.key(1), (7, 5, 3))


def only_choice(cell, params, xs, **how):
    (choice,) = Auto(**how).choose(cell, params, xs)
    return choice


def test_is_the_default():
    for function in (jaxrnn.unroll, jaxrnn.states_over_time):
        assert inspect.signature(function).parameters["loop"].default == Auto()


@needs_llvm
@pytest.mark.parametrize("name", slow_but(cases(), ["LSTM", "URNN", "ONLSTM", "Zoneout", "ConvLSTM", "SRU"]))
def test_chooses_native_for_every_cell_that_it_runs_and_that_is_not_a_matrix_cell(name):
    case = cases()[name]
    params, xs, _ = arguments(case.cell, input_size_of(case))
    choice = only_choice(case.cell, params, xs, checkpoint_every=3)
    if isinstance(case.cell, jaxrnn.MatrixCell):
        assert choice.loop == Chunked(checkpoint_every=3)
    elif name in REFUSED:
        assert choice.loop == Deferred(checkpoint_every=3)
        assert choice.why == f"Native cannot run {REFUSED[name]}"
    else:
        assert choice == (case.cell, Native(checkpoint_every=3), "it can run all of it")


@needs_llvm
def test_chooses_for_each_cell_of_a_layer():
    layer = jaxrnn.Stack(jaxrnn.LSTM(4), jaxrnn.Dense(3), jaxrnn.Bidirectional(jaxrnn.Elman(4)), jaxrnn.URNN(4))
    params = layer.init(jax.random.key(0), 3)
    for xs in (XS, jnp.zeros((7, 5), jnp.int32), jax.ShapeDtypeStruct((7, 5, 3), jnp.float32)):
        chosen = Auto().choose(layer, params, xs)
        assert [str(choice) for choice in chosen] == [
            "LSTM(hidden_size=4, forget_bias=1.0): Native, because it can run all of it",
            "Elman(hidden_size=4, activation=tanh): Native, because it can run all of it",
            "Elman(hidden_size=4, activation=tanh): Native, because it can run all of it",
            "URNN(hidden_size=4, seed=0): Deferred, because Native cannot run complex64",
        ]


def test_says_why_not():
    cell = jaxrnn.LSTM(4)
    params = cell.init(jax.random.key(0), 3)

    def why(monkeypatch, name, value):
        with monkeypatch.context() as patch:
            patch.setattr(*name, value)
            choice = only_choice(cell, params, XS)
        assert choice.loop == Deferred()
        return choice.why

    patch = pytest.MonkeyPatch()
    assert why(patch, (native_package.importlib.util, "find_spec"), lambda name: None) == (
        "Native needs llvmlite (pip install 'jaxrnn[native]')"
    )
    assert why(patch, (native_package.jax, "default_backend"), lambda: "gpu") == (
        "Native runs on a CPU, but JAX's default backend is 'gpu'"
    )
    if HAS_LLVM:
        assert why(patch, (auto.jax, "device_count"), lambda: 2) == (
            "Native does not divide a call among devices, except inside jax.shard_map"
        )


@needs_llvm
def test_float64_and_symbolic_sizes_are_run_by_deferred():
    cell = jaxrnn.LSTM(4)
    with jax.enable_x64(True):
        params = cell.init(jax.random.key(0), 3)
        assert params.b.dtype == jnp.float64
        assert only_choice(cell, params, XS.astype(jnp.float64)).why == "Native cannot run float64"
    from jax import export

    (time,) = export.symbolic_shape("time")
    params = cell.init(jax.random.key(0), 3)
    choice = only_choice(cell, params, jax.ShapeDtypeStruct((time, 2, 3), jnp.float32))
    assert choice.why == "Native needs sizes that are known, but under jax.export some are symbolic"


@jax.custom_jvp
def without_derivative(x):
    return 2 * x


@without_derivative.defjvp
def _raise(primals, tangents):
    raise NotImplementedError("no derivative is known")


class State(NamedTuple):
    h: jax.Array


@dataclass(frozen=True)
class Undifferentiable(jaxrnn.Cell):
    def init(self, key, input_size):
        return ()

    def initial_state(self, params, batch_shape=(), dtype=None):
        return State(jnp.zeros((*batch_shape, 3)))

    def project(self, params, x, key=None):
        return x

    def step(self, params, state, z):
        return State(without_derivative(state.h) + z)

    def readout(self, params, state, z):
        return state.h


@needs_llvm
def test_a_cell_without_a_derivative_runs_forwards():
    choice = only_choice(Undifferentiable(), (), XS)
    assert (choice.loop, choice.why) == (
        Deferred(),
        "Native cannot run the derivative (no derivative is known)",
    )
    expected = np.zeros((5, 3))
    for x in np.asarray(XS):
        expected = 2 * expected + x
    np.testing.assert_allclose(jaxrnn.unroll(Undifferentiable(), (), XS)[0].h, expected, rtol=1e-5)
    with pytest.raises(NotImplementedError, match="no derivative is known"):
        jax.grad(lambda xs: jaxrnn.unroll(Undifferentiable(), (), xs)[1].sum())(XS)


@dataclass(frozen=True)
class Attentive(jaxrnn.Cell):
    """Attends to a memory [batch, source, 3], which is a parameter. Its equations name the batch axis, or do not."""

    equation: str

    def init(self, key, input_size):
        return jax.random.normal(key, (5, 4, 3))

    def initial_state(self, params, batch_shape=(), dtype=None):
        return State(jnp.zeros((*batch_shape, 3)))

    def project(self, params, x, key=None):
        return x

    def step(self, params, state, z):
        weights = jax.nn.softmax(jnp.einsum(self.equation, params, state.h))
        return State(jnp.tanh(z + (weights[..., None] * params).sum(-2)))

    def readout(self, params, state, z):
        return state.h


@needs_llvm
@pytest.mark.parametrize(
    ("equation", "why"),
    [
        ("bsd,bd->bs", "a step without batch axes (Einstein sum subscript 'bd' does not contain the correct number"),
        ("...sd,...d->...s", "a step without batch axes (its state becomes [(5, 3)], not [(3,)])"),
    ],
)
def test_a_cell_that_needs_a_batch_axis_is_run_by_deferred(equation, why):
    cell = Attentive(equation)
    params = cell.init(jax.random.key(0), 3)
    choice = only_choice(cell, params, XS)
    assert choice.loop == Deferred()
    assert choice.why.startswith(f"Native cannot run {why}")
    found, expected = (
        jax.grad(lambda params, how=how: (jaxrnn.unroll(cell, params, XS, **how)[1] ** 2).sum())(params)
        for how in ({}, {"loop": Scan()})
    )
    assert_close(found, expected, rtol=1e-5)
    with pytest.raises(TypeError, match=r"Native cannot run a step without batch axes .* of Attentive.*loop=jaxrnn"):
        jaxrnn.unroll(cell, params, XS, loop=Native())


@dataclass(frozen=True)
class SharedMask(jaxrnn.Cell):
    """With a key, a mask of the hidden units is the same for the whole batch, so it has no batch axes."""

    def init(self, key, input_size):
        return jax.random.normal(key, (input_size, 5))

    def initial_state(self, params, batch_shape=(), dtype=None):
        return State(jnp.zeros((*batch_shape, 5)))

    def project(self, params, x, key=None):
        mask = jnp.ones((*x.shape[:-1], 5)) if key is None else jax.random.bernoulli(key, 0.5, (5,)).astype(x.dtype)
        return x @ params, mask

    def step(self, params, state, z):
        return State(jnp.tanh(z[0] + z[1] * state.h))

    def readout(self, params, state, z):
        return state.h


@needs_llvm
def test_a_mask_without_batch_axes_is_that_of_all_sequences():
    """Even if the batch, 5 here, has as many sequences as the mask has entries."""
    cell, key = SharedMask(), jax.random.key(3)
    params = cell.init(jax.random.key(0), 3)
    assert only_choice(cell, params, XS).loop == Native()
    found, expected = (
        jax.value_and_grad(
            lambda params, loop=loop: (jaxrnn.unroll(cell, params, XS, key=key, loop=loop)[1] ** 2).sum()
        )(params)
        for loop in (Native(), Scan())
    )
    assert_close(found, expected, rtol=1e-5)


class Counted(NamedTuple):
    h: jax.Array
    count: jax.Array


@dataclass(frozen=True)
class Counting(jaxrnn.Cell):
    """Counts steps with one number for the whole batch."""

    def init(self, key, input_size):
        return ()

    def initial_state(self, params, batch_shape=(), dtype=None):
        return Counted(jnp.zeros((*batch_shape, 3)), jnp.zeros(()))

    def project(self, params, x, key=None):
        return x

    def step(self, params, state, z):
        return Counted(state.h + z / (state.count + 1), state.count + 1)

    def readout(self, params, state, z):
        return state.h


@needs_llvm
def test_a_state_without_batch_axes_is_run_by_deferred():
    choice = only_choice(Counting(), (), XS)
    assert (choice.loop, choice.why) == (
        Deferred(),
        "Native cannot run a state whose arrays () lack the batch axes (5,)",
    )
    last, _ = jaxrnn.unroll(Counting(), (), XS)
    weights = 1 / np.arange(1, len(XS) + 1)
    np.testing.assert_allclose(last.h, np.einsum("t,tbf->bf", weights, XS), rtol=1e-5)


@needs_llvm
def test_errors_of_the_compiler_are_not_hidden(monkeypatch):
    def fail(*args, **kwargs):
        raise AttributeError("a fault of the compiler")

    from jaxrnn.loops.native import _scan

    monkeypatch.setattr(_scan, "scan_of_zeros", fail)
    cell = jaxrnn.Elman(7)  # of which no other test asks
    with pytest.raises(AttributeError, match="a fault of the compiler"):
        Auto().choose(cell, cell.init(jax.random.key(0), 3), XS)


@needs_llvm
def test_decides_once_for_equal_cells_and_types(monkeypatch):
    asked = []
    refusal = auto.refusal
    monkeypatch.setattr(auto, "refusal", lambda *args: asked.append(args) or refusal(*args))
    cell = jaxrnn.MGU(5)
    params = cell.init(jax.random.key(0), 3)
    for loop in (Auto(), Auto(checkpoint_every=2), Auto()):
        loop.choose(cell, params, XS)
        loop.choose(jaxrnn.MGU(5), params, XS + 1)
    assert len(asked) == 1


@needs_llvm
def test_runs_on_several_devices():
    """`Deferred` runs under plain `jit` and `Native` inside `jax.shard_map`, with the result of one device."""
    program = """
import jax, jax.numpy as jnp, numpy as np, jaxrnn
from jax.sharding import Mesh, NamedSharding, PartitionSpec as P

cell = jaxrnn.PeepholeLSTM(6)
params, xs = cell.init(jax.random.key(0), 3), jax.random.normal(jax.random.key(1), (7, 8, 3))
mesh = Mesh(np.array(jax.devices()), ("data",))
chosen = []


def loss(params, xs, loop):
    if loop is None:
        chosen.append(jaxrnn.loops.Auto().choose(cell, params, xs)[0])
        return (jaxrnn.unroll(cell, params, xs)[1] ** 2).sum()
    return (jaxrnn.unroll(cell, params, xs, loop=loop)[1] ** 2).sum()


def check(gradient):
    for found, expected in zip(jax.tree.leaves(gradient), jax.tree.leaves(expected_gradient), strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)


expected_gradient = jax.grad(loss)(params, xs, jaxrnn.loops.Scan())
split = jax.device_put(xs, NamedSharding(mesh, P(None, "data")))
for loop in (None, jaxrnn.loops.Native()):
    check(jax.jit(jax.grad(loss), static_argnums=2)(params, split, loop))


def of_shards(params, xs):
    gradient = jax.grad(lambda params: jax.lax.psum(loss(params, xs, None), "data"))(params)
    return gradient


check(jax.shard_map(of_shards, mesh=mesh, in_specs=(P(), P(None, "data")), out_specs=P())(params, xs))
print(*(type(choice.loop).__name__ for choice in chosen))
"""
    command = [sys.executable, "-c", "import os; os.environ['XLA_FLAGS'] = '--xla_force_host_platform_device_count=4'"]
    command[-1] += program
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "Deferred Native\n"


@needs_llvm
@pytest.mark.parametrize("name", ["LSTM", "PeepholeLSTM"])
def test_second_derivatives(name):
    cell = getattr(jaxrnn, name)(4)
    params = cell.init(jax.random.key(0), 3)

    def twice(loop):
        def loss(params):
            return (jaxrnn.unroll(cell, params, XS, loop=loop)[1] ** 2).sum()

        def norm(params):
            return sum((g**2).sum() for g in jax.tree.leaves(jax.grad(loss)(params)))

        return jax.jit(jax.grad(norm))(params)

    found, expected = twice(Native()), twice(Scan())
    assert_close(found, expected, rtol=1e-4)


@needs_llvm
def test_needs_no_more_memory_than_deferred():
    cell = jaxrnn.LSTM(64)
    params = jax.eval_shape(lambda: cell.init(jax.random.key(0), 64))
    xs = jax.ShapeDtypeStruct((128, 32, 64), jnp.float32)

    def temporaries(loop, gradient):
        def run(params, xs):
            return (jaxrnn.unroll(cell, params, xs, loop=loop)[1] ** 2).sum()

        run = jax.grad(run, argnums=(0, 1)) if gradient else run
        return jax.jit(run).lower(params, xs).compile().memory_analysis().temp_size_in_bytes

    for gradient in (False, True):
        assert temporaries(Native(), gradient) <= temporaries(Deferred(), gradient)


@pytest.mark.parametrize(
    "wrong",
    [{"layer": jaxrnn.GRU}, {"params": ()}, {"xs": XS[..., :2]}, {"xs": 1j * XS}, {"xs": list(XS)}, {"key": 3}],
    ids=["layer", "params", "size of xs", "kind of xs", "list", "key"],
)
def test_choose_checks_its_arguments_as_unroll_does(wrong):
    cell = jaxrnn.GRU(4)
    given = {"layer": cell, "params": cell.init(jax.random.key(0), 3), "xs": XS} | wrong
    with pytest.raises((TypeError, ValueError)) as expected:
        jaxrnn.unroll(**given)
    with pytest.raises(expected.type) as found:
        Auto().choose(**given)
    assert str(found.value).splitlines()[0] == str(expected.value).splitlines()[0]
