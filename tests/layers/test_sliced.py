"""A layer over slices against a recursion in NumPy, and reversed layers."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxrnn
from jaxrnn import GRU, LSTM, Bidirectional, Elman, Sliced, Stack, Zoneout, unroll
from tests.cells.test_gru import gru
from tests.support import references
from tests.support.comparisons import assert_close, to_numpy
from tests.support.inputs import INPUT, draw, draw_params, draw_state
from tests.support.tiers import slow

pytestmark = pytest.mark.usefixtures("x64", "quick")
BATCH = 3
run = jax.jit(unroll, static_argnums=0, static_argnames="reverse")
both_ways = pytest.mark.parametrize("reverse", [slow(False), True], ids=["forward", "reverse"])


def sliced(reference, params, xs, slices, state=None):
    """Yu and Liu 2018 for one sequence: outputs and the last state. The state of an empty slice is not read."""
    levels = len(params) - 1
    steps = [part.tolist() for part in np.array_split(range(len(xs)), slices**levels)]  # the longer ones first
    inputs = [[xs[t] for t in part] for part in steps]
    for level in range(levels):
        ends = [references.run(reference, params[level], np.stack(part))[1][-1] if part else None for part in inputs]
        groups = [ends[n : n + slices] for n in range(0, len(ends), slices)]
        inputs = [[end for end in group if end is not None] for group in groups]
    (tops,) = inputs
    if not tops:
        return np.zeros((0, 4)), reference.initial(params[-1]) if state is None else state
    last, ys = references.run(reference, params[-1], np.stack(tops), state)
    each = slices ** (levels - 1)
    parts = [[t for step in steps[n : n + each] for t in step] for n in range(0, len(steps), each)]
    filled = [part for part in parts if part]
    outputs = np.concatenate([np.repeat(y[None], len(part), axis=0) for y, part in zip(ys, filled, strict=True)])
    return outputs, last


EXAMPLE = jaxrnn.Sliced(jaxrnn.GRU(4), slices=2)


@both_ways
@pytest.mark.parametrize(("time", "slices", "levels"), [slow(8, 2, 2), slow(7, 3, 1), (11, 3, 2), (3, 2, 2)])
def test_sliced_equals_the_reference(time, slices, levels, reverse):
    layer, reference = Sliced(GRU(4), slices=slices, levels=levels), gru(4)
    params, xs = draw_params(layer), draw(time, BATCH, INPUT)
    state = draw_state(layer, params, (BATCH,))
    for lengths in (None, np.array([time, 0, (2 * time + 2) // 3])):
        (last,), ys = run(layer, params, xs, state, lengths=lengths, reverse=reverse)
        for n, length in enumerate([time] * BATCH if lengths is None else lengths):
            read = slice(None, None, -1) if reverse else slice(None)
            expected, (h,) = sliced(
                reference, to_numpy(params), xs[:length, n][read], slices, (np.asarray(state.h[n]),)
            )
            assert_close(ys[:length, n][read], expected)
            assert_close(last[n], h)
            assert not np.asarray(ys[length:, n]).any()
            if length:  # the output at the step read last is that of all
                assert_close(ys[0 if reverse else length - 1, n], last[n])


def test_gradient_of_sliced_equals_complex_differences():
    layer, reference = Sliced(GRU(2), slices=2, levels=2), gru(2)
    params, xs = draw_params(layer, input_size=2), draw(5, 2)
    leaves, tree = jax.tree.flatten((params, xs))

    def expected(leaves):
        params, xs = jax.tree.unflatten(tree, leaves)
        ys, (h,) = sliced(reference, params, xs, 2, (np.zeros(2),))
        return (ys**3).sum() + (h**2).sum()

    def loss(leaves, lengths=None):
        params, xs = jax.tree.unflatten(tree, leaves)
        last, ys = unroll(layer, params, jnp.concatenate([xs, jnp.full((3, 2), jnp.nan)]), lengths=jnp.array(5))
        return (ys**3).sum() + (last.h**2).sum()

    assert_close(jax.grad(loss)(leaves), references.gradient(expected, to_numpy(leaves)), rtol=1e-11)


def test_linear_slices_are_the_whole():
    """Yu and Liu 2018, section 3.3: without squashing, and with the right weights, slicing changes nothing."""
    layer = Sliced(jaxrnn.Elman(3, activation=lambda x: x), slices=2, levels=2)
    whole = draw_params(jaxrnn.Elman(3))._replace(b=np.zeros(3))
    xs = draw(12, INPUT)
    power, eye = np.linalg.matrix_power, np.eye(3)
    params = (whole, whole._replace(w_x=eye, w_h=power(whole.w_h, 3)), whole._replace(w_x=eye, w_h=power(whole.w_h, 6)))
    (expected,), _ = unroll(jaxrnn.Elman(3, activation=lambda x: x), whole, xs)
    (found,), _ = unroll(layer, params, xs)
    np.testing.assert_allclose(found, expected, rtol=1e-10)


def test_a_sequence_is_continued_on_the_last_level():
    layer = Sliced(LSTM(4), slices=2)
    params, xs = draw_params(layer), draw(8, BATCH, INPUT)
    half, _ = unroll(layer, params, xs[:4])
    last, ys = unroll(layer, params, xs[4:], half)
    (two, _), four = unroll(Sliced(LSTM(4), slices=4), params, xs)[0], ys[-1]
    assert_close(four, two)
    assert_close(last.h, two)


def test_slices_read_symbols_and_each_other():
    layer = Stack(Sliced(Bidirectional(GRU(2)), slices=2), Sliced(Sliced(jaxrnn.Elman(2), slices=2), slices=3))
    params, symbols = draw_params(layer, input_size=5), np.random.default_rng(0).integers(0, 5, (11, 2))
    lengths = np.array([11, 4])
    _, ys = run(layer, params, symbols, lengths=lengths)
    for n, length in enumerate(lengths):
        assert_close(ys[:length, n], run(layer, params, symbols[:length, n])[1])


def test_keys_reach_every_level_and_differ_between_slices():
    """One mask for both levels would make half of the outputs zero; one for all slices would make no more zeros."""
    layer = Sliced(Zoneout(jaxrnn.Elman(400, activation=lambda x: x), rate=0.5), slices=2)
    zero, eye, b = jnp.zeros((400, 400)), jnp.eye(400), jnp.zeros(400)
    params = (jaxrnn.cells.ElmanParams(jnp.ones((INPUT, 400)), zero, b), jaxrnn.cells.ElmanParams(eye, zero, b))
    ys = np.asarray(unroll(layer, params, np.ones((2, INPUT)), key=jax.random.key(0))[1])  # two slices of one step
    assert abs((ys[0] == 0).mean() - 0.75) < 4 * np.sqrt(0.75 * 0.25 / 400)  # kept at zero by one level or the other
    assert ((ys[0] != 0) & (ys[1] == 0)).any()
    assert (np.unique(ys) == [0, INPUT]).all()


@pytest.mark.parametrize("dtype", [np.uint8, np.uint32, np.int8])
def test_lengths_may_have_any_integer_dtype(dtype):
    layer = Sliced(Elman(2), slices=12, levels=2)  # 144 slices, more than an int8 represents
    params, xs, lengths = draw_params(layer), draw(5, BATCH, INPUT), np.array([5, 0, 2])

    def loss(params, lengths):
        return (unroll(layer, params, xs, lengths=lengths)[1] ** 2).sum()

    found, expected = (jax.grad(loss)(params, n) for n in (lengths.astype(dtype), lengths))
    assert_close(found, expected)
