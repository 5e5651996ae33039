"""Kinds of numbers: no imaginary part and no fraction is discarded in silence."""

from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import jaxrnn
from jaxrnn import unroll
from jaxrnn.loops import AssociativeScan, Auto, Chunked, Deferred, Native, Newton, Scan
from tests.support.cases import cases, examples
from tests.support.inputs import INPUT, draw, draw_params
from tests.support.tiers import slow_but

pytestmark = pytest.mark.usefixtures("quick")

TIME, BATCH = 9, 2
LAYERS = {name: (case.cell, case.reference.input_size or INPUT) for name, case in cases().items()}
LAYERS |= {name: (layer, INPUT) for name, layer in examples().items()}
WITHOUT_STATE = ("Activation", "Dense", "Dropout", "Embedding", "LayerNorm")
REFUSING = [name for name in LAYERS if name not in WITHOUT_STATE]
CHOSEN = ("LSTM", "LRU", "DeltaNet", "SGU", "Skip", "Stack", "Window")


def imaginary(*shape):
    return draw(*shape) + 1j * draw(*shape, seed=1)


@pytest.mark.parametrize("name", slow_but(REFUSING, CHOSEN))
def test_complex_inputs_are_refused_where_the_imaginary_part_would_be_lost(name):
    layer, size = LAYERS[name]
    params = jax.eval_shape(lambda: layer.init(jax.random.key(0), size))
    xs = jax.ShapeDtypeStruct((TIME, BATCH, *np.atleast_1d(size)), jnp.complex64)
    message = r"\(.*\) needs real inputs, but a dtype is complex64: give the parts of xs as features, jnp\.concatenate"
    with pytest.raises(TypeError, match=f"^{name}{message}"):
        jax.eval_shape(lambda params, xs: unroll(layer, params, xs), params, xs)


@pytest.mark.parametrize(
    ("cell", "loops"),
    [
        (jaxrnn.MinGRU(4), (Scan(), Deferred(), Newton(), Native(), AssociativeScan())),
        (jaxrnn.LRU(4, 2), (Scan(), Deferred(), Newton(), AssociativeScan())),
        (jaxrnn.Retention(4), (Scan(), Newton(), AssociativeScan(), Chunked())),
        (jaxrnn.RWKV7(4), (Scan(), Auto(), Chunked())),
    ],
    ids=["MinGRU", "LRU", "Retention", "RWKV7"],
)
def test_every_loop_refuses_them_with_the_same_words(cell, loops):
    params, xs = cell.init(jax.random.key(0), INPUT), imaginary(TIME, BATCH, INPUT)
    for loop in loops:
        with pytest.raises(TypeError, match="needs real inputs, but a dtype is complex64"):
            jax.eval_shape(lambda params, xs, loop=loop: unroll(cell, params, xs, loop=loop), params, xs)


@pytest.mark.parametrize("name", WITHOUT_STATE)
def test_layers_without_a_state_map_complex_numbers(name):
    layer, _ = LAYERS[name]
    params, xs = layer.init(jax.random.key(0), INPUT), imaginary(TIME, BATCH, INPUT)
    expected = {
        "Activation": lambda: np.tanh(xs),
        "Dense": lambda: xs @ np.asarray(params.w) + np.asarray(params.b),
        "Dropout": lambda: xs,
        "Embedding": lambda: xs @ np.asarray(params.w),
        "LayerNorm": lambda: (xs - xs.mean(-1, keepdims=True)) / xs.std(-1, keepdims=True),
    }[name]()
    np.testing.assert_allclose(unroll(layer, params, xs)[1], expected, rtol=1e-4)


class RotatingState(NamedTuple):
    s: Any


@dataclass(frozen=True)
class Rotating(jaxrnn.Cell):
    """A cell of complex numbers with real parameters."""

    def init(self, key, input_size):
        return jnp.linspace(0, 1, input_size)

    def initial_state(self, params, batch_shape=(), dtype=None):
        return RotatingState(jnp.zeros((*batch_shape, *params.shape), jnp.complex64))

    def project(self, params, x, key=None):
        return x

    def step(self, params, state, z):
        return RotatingState(0.9 * jnp.exp(1j * params) * state.s + z)

    def readout(self, params, state, z):
        return state.s


@pytest.mark.parametrize("loop", [Auto(), Scan(), Deferred(), Newton()], ids=repr)
def test_a_cell_of_complex_numbers_reads_complex_inputs(loop):
    params, xs = Rotating().init(jax.random.key(0), INPUT), imaginary(TIME, BATCH, INPUT)
    state, ys = unroll(Rotating(), params, xs, loop=loop)
    expected = np.zeros((BATCH, INPUT), complex)
    for x, y in zip(xs, ys, strict=True):
        expected = 0.9 * np.exp(1j * np.asarray(params)) * expected + x
        np.testing.assert_allclose(y, expected, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(state.s, expected, rtol=1e-5, atol=1e-5)


def test_complex_parameters_make_a_complex_network():
    cell = jaxrnn.Elman(4)
    params = jax.tree.map(lambda w: w + 0.1j * np.arange(w.size).reshape(w.shape), draw_params(cell))
    xs, h = imaginary(TIME, BATCH, INPUT), np.zeros((BATCH, 4))
    state, _ = unroll(cell, params, xs)
    for x in xs:
        h = np.tanh(x @ np.asarray(params.w_x) + h @ np.asarray(params.w_h) + np.asarray(params.b))
    np.testing.assert_allclose(state.h, h, rtol=1e-3)


@dataclass(frozen=True)
class Accumulating(jaxrnn.Cell):
    """A cell whose state does not keep the kind of its numbers."""

    dtype: Any
    factor: complex

    def init(self, key, input_size):
        return jnp.ones(())

    def initial_state(self, params, batch_shape=(), dtype=None):
        return jnp.zeros(batch_shape, self.dtype)

    def project(self, params, x, key=None):
        return params * self.factor * x.sum(-1)

    def step(self, params, state, z):
        return state + z

    def readout(self, params, state, z):
        return z.real[..., None]


@pytest.mark.parametrize("loop", [Scan(), Auto(), Deferred(), Newton()], ids=repr)
@pytest.mark.parametrize(("before", "factor"), [(jnp.int32, 1), (jnp.float32, 1j)], ids=["fractions", "imaginary"])
def test_a_state_that_changes_its_kind_is_refused(before, factor, loop):
    cell = Accumulating(before, factor)
    after = jnp.complex64 if factor == 1j else jnp.float32
    message = f"an array of the state must not become {jnp.dtype(after)} in a step if it is {jnp.dtype(before)} before"
    with pytest.raises(TypeError, match=message):
        unroll(cell, jnp.ones(()), draw(TIME, BATCH, INPUT), loop=loop)


def test_a_learned_state_keeps_the_kinds_of_its_numbers():
    for cell in (jaxrnn.LRU(4, 2), jaxrnn.ClockworkRNN(4, periods=(1, 2))):
        learned = jaxrnn.LearnedInitialState(cell)
        params = learned.init(jax.random.key(0), INPUT)
        for dtype in (None, jnp.bfloat16, jnp.float32):
            found, expected = learned.initial_state(params, (2,), dtype), cell.initial_state(params.cell, (2,), dtype)
            assert jax.tree.map(jnp.result_type, found) == jax.tree.map(jnp.result_type, expected)


def test_flax_modules_refuse_what_unroll_refuses():
    xs = draw(BATCH, TIME, INPUT)
    module = jaxrnn.linen.RNN(jaxrnn.GRU(4))
    variables = module.init(jax.random.key(0), xs)
    other = jaxrnn.nnx.RNN(jaxrnn.GRU(4), INPUT, rngs=nnx.Rngs(0))
    for run in (lambda xs: module.apply(variables, xs), other):
        with pytest.raises(TypeError, match="needs real inputs, but a dtype is complex64"):
            run(1j * xs)
        with pytest.raises(TypeError, match="inputs must be an array of numbers, but its dtype is <U1: cast it"):
            run(np.full(xs.shape, "a"))
