"""The window of past inputs against slices of padded sequences, and the quasi-recurrent network as convolutions."""

from functools import partial

import jax
import numpy as np
import pytest

import jaxrnn
from jaxrnn import QRNN, Embedding, Stack, Window, loops, unroll
from tests.support.comparisons import assert_close, to_numpy
from tests.support.inputs import INPUT, draw, draw_params, draw_state
from tests.support.references import sigmoid

EXAMPLE = jaxrnn.Window(3)


pytestmark = pytest.mark.usefixtures("x64", "quick")
TIME, BATCH, WIDTH = 7, 4, 3
LENGTHS, RESETS = np.array([7, 0, 5, 1]), draw(TIME, BATCH) > 0.5

run = jax.jit(unroll, static_argnums=0, static_argnames=("reverse", "loop"))


def expected_window(xs, past, length, resets, reverse):
    """One sequence [time, input], one step after the other: its windows, and the past that is left."""
    ys, past = np.zeros((len(xs), WIDTH * xs.shape[-1])), [*past]
    for t in reversed(range(length)) if reverse else range(length):
        later = t + 1 if reverse else t
        past = [np.zeros(xs.shape[-1])] * (WIDTH - 1) if later < length and resets[later] else past
        ys[t] = np.concatenate([*past, xs[t]])
        past = [*past[1:], xs[t]]
    return ys, past


@pytest.mark.parametrize("reverse", [False, True], ids=["forward", "reverse"])
def test_window(reverse):
    layer, xs = Window(WIDTH), draw(TIME, BATCH, INPUT)
    params = layer.init(jax.random.key(0), INPUT)
    state = draw_state(layer, params, (BATCH,))
    last, ys = run(layer, params, xs, state, lengths=LENGTHS, resets=RESETS, reverse=reverse)
    for n in range(BATCH):
        expected, past = expected_window(xs[:, n], np.asarray(state.past[n]), LENGTHS[n], RESETS[:, n], reverse)
        np.testing.assert_array_equal(ys[:, n], expected)
        np.testing.assert_array_equal(last.past[n], past)
    last, ys = run(layer, params, xs, reverse=reverse)  # a whole batch, from the beginning
    for n in range(BATCH):
        zeros = np.zeros((WIDTH - 1, INPUT))
        expected, past = expected_window(xs[:, n], zeros, TIME, np.zeros(TIME, bool), reverse)
        np.testing.assert_array_equal(ys[:, n], expected)
        np.testing.assert_array_equal(last.past[n], past)


@pytest.mark.parametrize("cut", [1, 3, 6])
@pytest.mark.parametrize("reverse", [False, True], ids=["forward", "reverse"])
def test_cut_in_time(cut, reverse):
    layer, xs = Window(WIDTH), draw(TIME, BATCH, INPUT)
    params = layer.init(jax.random.key(0), INPUT)
    last, ys = run(layer, params, xs, reverse=reverse)
    parts, state = [slice(None, cut), slice(cut, None)], None
    for part in parts[::-1] if reverse else parts:
        state, some = run(layer, params, xs[part], state, reverse=reverse)
        np.testing.assert_array_equal(some, ys[part])
    np.testing.assert_array_equal(state.past, last.past)


def test_it_has_no_numbers_of_its_own():
    params = Window(WIDTH).init(jax.random.key(0), INPUT)
    assert sum(leaf.size for leaf in jax.tree.leaves(params)) == 0
    xs = draw(TIME, BATCH, INPUT)
    np.testing.assert_array_equal(run(Window(1), params, xs)[1], xs)


def convolution(params, xs, width):
    """Bradbury et al. 2017, eqs. 1 and 4: three banks of filters over time that see nothing later."""
    w_x, b = to_numpy(params)
    filters = w_x.reshape(width, xs.shape[-1], -1)
    padded = np.concatenate([np.zeros((width - 1, *xs.shape[1:])), xs])
    total = sum(padded[k : k + len(xs)] @ filters[k] for k in range(width)) + b
    z, f, o = np.split(total, 3, axis=-1)
    z, f, o = np.tanh(z), sigmoid(f), sigmoid(o)
    c, hs = np.zeros(z.shape[1:]), []
    for t in range(len(xs)):
        c = f[t] * c + (1 - f[t]) * z[t]
        hs.append(o[t] * c)
    return np.array(hs)


@pytest.mark.parametrize("width", [1, 2, 4])
def test_a_quasi_recurrent_network_is_a_convolution_and_pooling(width):
    model, xs = Stack(Window(width), QRNN(4)), draw(TIME, BATCH, INPUT)
    params = draw_params(model)
    expected = convolution(params[1], xs, width)
    for loop in (loops.Deferred(), loops.AssociativeScan()):
        np.testing.assert_allclose(run(model, params, xs, loop=loop)[1], expected, rtol=1e-12, atol=1e-14)
    ys = run(model, params, xs, lengths=LENGTHS, reverse=True)[1]
    for n, length in enumerate(LENGTHS):
        turned = convolution(params[1], xs[:length, n][::-1], width)[::-1] if length else np.zeros((0, 4))
        np.testing.assert_allclose(ys[:length, n], turned, rtol=1e-12, atol=1e-14)


def test_symbols_after_an_embedding():
    model, symbols = Stack(Embedding(INPUT), Window(2), QRNN(4)), np.random.default_rng(0).integers(0, 5, (TIME, BATCH))
    params = draw_params(model, input_size=5)
    embedded = np.asarray(params[0].w)[symbols]
    assert_close(run(model, params, symbols)[1], convolution(params[2], embedded, 2))


def test_gradients_equal_those_of_slices():
    model, xs = Stack(Window(2), QRNN(4)), draw(TIME, BATCH, INPUT)
    params = draw_params(model)

    def of_slices(xs):
        windows = jax.numpy.concatenate([jax.numpy.zeros_like(xs[:1]), xs[:-1]]), xs
        return unroll(QRNN(4), params[1], jax.numpy.concatenate(windows, axis=-1))[1]

    def of_the_layer(xs):
        return run(model, params, xs)[1]

    one, other = (jax.grad(lambda xs, f=f: (f(xs) ** 2).sum())(xs) for f in (of_the_layer, of_slices))
    assert_close(one, other)


def test_under_vmap_and_in_low_precision():
    layer, xs = Window(WIDTH), draw(TIME, BATCH, INPUT)
    params = layer.init(jax.random.key(0), INPUT)
    mapped = jax.vmap(partial(unroll, layer, params), in_axes=1, out_axes=(0, 1))(xs)
    assert_close(mapped, run(layer, params, xs))
    low, small = jax.tree.map(lambda leaf: jax.numpy.asarray(leaf, "bfloat16"), (params, xs))
    last, ys = unroll(layer, low, small, layer.initial_state(low, (BATCH,), "float32"))
    assert (last.past.dtype, ys.dtype) == (np.float32, small.dtype)
    np.testing.assert_array_equal(ys[..., -INPUT:], small)
