"""`unroll` with a mask: the same as the sequences without their missing steps, each run alone."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxrnn
from jaxrnn import LSTM, hold, unroll
from jaxrnn.loops import AssociativeScan, Deferred
from tests.support.comparisons import assert_close
from tests.support.inputs import draw, draw_params, draw_state
from tests.support.tiers import slow

pytestmark = pytest.mark.usefixtures("x64", "quick")
TIME, BATCH, INPUT = 7, 4, 3
MASK = np.array(
    [
        [0, 0, 0, 1, 1, 1, 1],  # padding at the beginning
        [1, 0, 1, 1, 0, 0, 1],  # gaps
        [0, 0, 0, 0, 0, 0, 0],
        [0, 1, 1, 0, 1, 1, 0],
    ],
    bool,
).T

LAYERS = {
    "LSTM": LSTM(4),
    "Bidirectional": jaxrnn.Bidirectional(jaxrnn.GRU(4)),
    "Window": jaxrnn.Stack(jaxrnn.Window(3), jaxrnn.Dense(4)),
    "Sliced": jaxrnn.Sliced(jaxrnn.GRU(4), slices=2),
    "Reversed": jaxrnn.Stack(jaxrnn.GRU(3), jaxrnn.Reversed(jaxrnn.LearnedInitialState(jaxrnn.GRU(4)))),
}
both_ways = pytest.mark.parametrize("reverse", [False, True], ids=["forward", "reverse"])
run = jax.jit(unroll, static_argnums=0, static_argnames=("reverse", "loop"))


def alone(layer, params, xs, state, *, mask, lengths=None, resets=None, **how):
    """Each sequence alone and without its missing steps; a reset at one of them moves to the next present step."""
    xs, present = np.asarray(xs), mask.copy()
    if lengths is not None:
        present &= np.arange(TIME)[:, None] < lengths
    ys, last = None, []
    for n in range(BATCH):
        steps = np.flatnonzero(present[:, n])
        if resets is not None:
            before = [0, *(steps + 1)][: len(steps)]
            how["resets"] = np.array([resets[a : b + 1, n].any() for a, b in zip(before, steps, strict=True)], bool)
        s, y = unroll(layer, params, xs[steps, n], jax.tree.map(lambda leaf, n=n: leaf[n], state), **how)
        if resets is not None and layer.causal and restarts_at_the_end(resets[:, n], steps, lengths[n], how["reverse"]):
            s = layer.initial_state(params)
        ys = np.zeros((TIME, BATCH, *y.shape[1:])) if ys is None else ys
        ys[steps, n] = y
        last.append(s)
    return jax.tree.map(lambda *leaves: np.stack(leaves), *last), ys


def restarts_at_the_end(resets, present, length, reverse):
    """Whether a sequence begins, or in reverse its successor, beyond all present steps that are read."""
    begins = np.flatnonzero(resets[:length])
    if reverse:
        return any(0 < t <= min(present, default=length) for t in begins)
    return any(t > max(present, default=-1) for t in begins)


@both_ways
@pytest.mark.parametrize("name", LAYERS)
def test_a_mask_equals_the_sequences_without_their_missing_steps(name, reverse):
    layer = LAYERS[name]
    params, xs = draw_params(layer), draw(TIME, BATCH, INPUT)
    how = {"mask": MASK, "reverse": reverse, "lengths": np.array([7, 6, 7, 5])}
    if name != "Sliced":
        how["resets"] = draw(TIME, BATCH) > 0.4
    state = draw_state(layer, params, (BATCH,))
    assert_close(run(layer, params, xs, state, **how), alone(layer, params, xs, state, **how))


@pytest.mark.parametrize("loop", [AssociativeScan(), slow(AssociativeScan(chunk=2)), slow(Deferred(block=2))], ids=str)
def test_a_mask_in_other_loops(loop):
    cell = jaxrnn.MinGRU(4)
    params, xs = draw_params(cell), draw(TIME, BATCH, INPUT)
    state = draw_state(cell, params, (BATCH,))
    assert_close(run(cell, params, xs, state, mask=MASK, loop=loop), alone(cell, params, xs, state, mask=MASK))


@pytest.mark.parametrize("name", ["LSTM", "Bidirectional", "Window"])
def test_inputs_and_resets_of_missing_steps_are_never_read(name):
    layer = LAYERS[name]
    params = draw_params(layer)

    @jax.jit
    @partial(jax.value_and_grad, argnums=(0, 1), has_aux=True)
    def loss(params, xs):
        last, ys = unroll(layer, params, xs, mask=MASK)
        return (ys**2).sum() + sum((leaf**3).sum() for leaf in jax.tree.leaves(last)), (last, ys)

    xs = draw(TIME, BATCH, INPUT)
    one = loss(params, xs)
    xs[~MASK] = np.nan
    other = loss(params, xs)
    jax.tree.map(np.testing.assert_array_equal, one, other)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(other))
    assert not other[1][1][~MASK].any()
    assert other[1][1][MASK].all()


def test_a_mask_of_padding_at_the_end_is_a_length():
    cell, lengths = LSTM(4), np.array([7, 0, 3, 5])
    params, xs = draw_params(cell), draw(TIME, BATCH, INPUT)
    mask = np.arange(TIME)[:, None] < lengths
    assert_close(run(cell, params, xs, mask=mask), run(cell, params, xs, lengths=lengths))
    assert_close(run(cell, params, xs, mask=np.ones_like(mask)), run(cell, params, xs))


@pytest.mark.parametrize("batch_shape", [(), (2, 2)], ids=str)
def test_any_number_of_batch_axes(batch_shape):
    cell = LSTM(4)
    params, xs = draw_params(cell), draw(TIME, BATCH, INPUT)
    state, ys = unroll(cell, params, xs, mask=MASK)
    batch = xs[:, 1] if batch_shape == () else xs.reshape(TIME, *batch_shape, INPUT)
    mask = MASK[:, 1] if batch_shape == () else MASK.reshape(TIME, *batch_shape)
    other_state, other_ys = unroll(cell, params, batch, mask=mask)
    assert_close(other_ys, ys[:, 1] if batch_shape == () else ys.reshape(TIME, *batch_shape, 4))
    assert_close(other_state.h, state.h[1] if batch_shape == () else state.h.reshape(*batch_shape, 4))


def test_symbols_and_no_steps():
    cell = LSTM(4)
    params, symbols = draw_params(cell), np.arange(TIME * BATCH).reshape(TIME, BATCH) % INPUT
    one_hot = np.eye(INPUT)[symbols]
    broken = np.where(MASK, symbols, 99)  # out of range
    assert_close(run(cell, params, broken, mask=MASK), run(cell, params, one_hot, mask=MASK))
    state, ys = unroll(cell, params, one_hot[:0], mask=MASK[:0], resets=MASK[:0])
    assert ys.shape == (0, BATCH, 4)
    assert not state.h.any()


def test_one_step_with_a_mask():
    cell = LSTM(4)
    params, state = draw_params(cell), draw_state(cell, draw_params(cell), (2,))
    x = draw(2, INPUT)
    expected_state, expected_y = jaxrnn.step(cell, params, state, x)
    x[0] = np.nan
    last, y = jaxrnn.step(cell, params, state, x, mask=[False, True])
    assert_close((last.h[1], last.c[1], y[1]), (expected_state.h[1], expected_state.c[1], expected_y[1]))
    np.testing.assert_array_equal(last.h[0], state.h[0])
    assert not y[0].any()


@pytest.mark.parametrize("size", [1, 3])
def test_parts_and_single_steps_equal_the_whole(size):
    """A reset at a missing step at the end of a part takes effect in the next part."""
    cell = LSTM(4)
    params, xs = draw_params(cell), draw(TIME, BATCH, INPUT)
    resets = ~MASK  # at every missing step
    whole = run(cell, params, xs, mask=MASK, resets=resets)
    state, parts = cell.initial_state(params, (BATCH,)), []
    for t in range(0, TIME, size):
        part = {"mask": MASK[t : t + size], "resets": resets[t : t + size]}
        if size == 1:
            state, y = jaxrnn.step(cell, params, state, xs[t], mask=MASK[t], resets=resets[t])
            parts.append(y[None])
        else:
            state, ys = run(cell, params, xs[t : t + size], state, **part)
            parts.append(ys)
    assert_close((state, np.concatenate(parts)), whole)


def test_without_a_mask_the_program_is_the_same():
    cell, xs = LSTM(4), draw(TIME, BATCH, INPUT)
    params = draw_params(cell)
    one = jax.jit(lambda params, xs: unroll(cell, params, xs)).lower(params, xs).as_text()
    other = jax.jit(lambda params, xs: unroll(cell, params, xs, mask=None)).lower(params, xs).as_text()
    assert one == other
    assert "sort" not in one


# ---- what is done with the outputs -----------------------------------------------------------------------------------


@both_ways
def test_hold_repeats_the_last_present_entry(reverse):
    xs = {"y": draw(TIME, BATCH, 2), "n": np.arange(TIME * BATCH).reshape(TIME, BATCH) + 1}
    broken = {"y": np.where(MASK[..., None], xs["y"], np.nan), "n": np.where(MASK, xs["n"], -9)}
    held = hold(broken, MASK, reverse=reverse)
    for n in range(BATCH):
        last = jax.tree.map(lambda x: np.zeros_like(x[0, 0]), xs)
        for t in reversed(range(TIME)) if reverse else range(TIME):
            if MASK[t, n]:
                last = jax.tree.map(lambda x, t=t, n=n: x[t, n], xs)
            jax.tree.map(lambda h, e, t=t, n=n: np.testing.assert_array_equal(h[t, n], e), held, last)


def test_hold_never_reads_missing_entries():
    ys = draw(TIME, BATCH, 2)
    grad = jax.grad(lambda ys: (hold(ys, MASK) ** 2).sum())
    one = grad(np.where(MASK[..., None], ys, 0))
    other = grad(np.where(MASK[..., None], ys, np.nan))
    np.testing.assert_array_equal(one, other)
    assert one[MASK].all()
    assert not one[~MASK].any()


def test_at_last_reads_states_and_outputs():
    lengths = np.array([7, 0, 3, 5])
    xs = {"y": draw(TIME, BATCH, 2), "n": np.arange(TIME * BATCH).reshape(TIME, BATCH)}
    last = jaxrnn.at_last(xs, lengths)
    for n, length in enumerate(lengths):
        for name, x in xs.items():
            expected = x[length - 1, n] if length else np.zeros_like(x[0, 0])
            np.testing.assert_array_equal(last[name][n], expected)
    np.testing.assert_array_equal(jaxrnn.at_last(xs["y"][:, 0], 3), xs["y"][2, 0])
    np.testing.assert_array_equal(jaxrnn.at_last(xs["y"][:0], 0 * lengths), np.zeros((BATCH, 2)))


def test_at_last_of_an_empty_sequence_never_reads_it():
    xs = draw(TIME, BATCH, 2)
    xs[:, 1] = np.nan
    grad = jax.grad(lambda xs: (jaxrnn.at_last(xs, jnp.array([7, 0, 3, 5])) ** 2).sum())(xs)
    assert np.isfinite(grad).all()
    assert not grad[:, 1].any()
    assert grad[2, 2].all()


def test_at_last_of_held_outputs_is_the_last_present_one():
    lengths = np.array([7, 0, 3, 5])
    ys = draw(TIME, BATCH, 2)
    ys = np.where((MASK & (np.arange(TIME)[:, None] < lengths))[..., None], ys, 0)  # as unroll returns them
    last = jaxrnn.at_last(hold(ys, MASK), lengths)
    for n, length in enumerate(lengths):
        present = [y for y, p in zip(ys[:length, n], MASK[:length, n], strict=True) if p]
        np.testing.assert_array_equal(last[n], present[-1] if present else np.zeros(2))
