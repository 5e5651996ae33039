"""Properties of `unroll` that hold for all lengths, resets, directions and batch axes, tested with hypothesis."""

from functools import partial

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

import jaxrnn
from jaxrnn import unroll
from tests.support import references
from tests.support.cases import selected_cells
from tests.support.comparisons import assert_close, flat, to_numpy
from tests.support.inputs import INPUT, draw, draw_params, draw_state

pytestmark = pytest.mark.usefixtures("x64", "quick")
CELLS = selected_cells()
TIME = 5

names = st.sampled_from(["LSTM", "GRU", "LearnedInitialState"])
directions = st.booleans()
seeds = st.integers(0, 1000)
garbage = st.sampled_from([np.nan, np.inf, -np.inf, 1e308])


def lengths_of(*batch_shape):
    return arrays(np.int64, batch_shape, elements=st.integers(0, TIME))


def resets_of(*batch_shape):
    return arrays(bool, (TIME, *batch_shape))


@partial(jax.jit, static_argnums=0, static_argnames="reverse")
def run(cell, params, xs, state=None, **how):
    """Compiled once for each cell, direction and shape."""
    return unroll(cell, params, xs, state, **how)


@partial(jax.jit, static_argnums=0, static_argnames="reverse")
def run_with_gradients(cell, params, xs, state, **how):
    def loss(params, xs, state):
        last, ys = unroll(cell, params, xs, state, **how)
        return (ys**2).sum() + sum((leaf**3).sum() for leaf in jax.tree.leaves(last)), (last, ys)

    return jax.value_and_grad(loss, argnums=(0, 1, 2), has_aux=True)(params, xs, state)


steps_of_any_batch = st.sampled_from([(), (2,), (2, 2)]).flatmap(lambda b: st.tuples(lengths_of(*b), resets_of(*b)))


def equals_the_reference(name, reverse, seed, steps):
    cell, reference = CELLS[name].cell, CELLS[name].reference
    lengths, resets = steps
    params, xs = draw_params(cell, seed), draw(TIME, *lengths.shape, INPUT, seed=seed)
    state = draw_state(cell, params, lengths.shape, seed)
    how = {"lengths": lengths, "resets": resets, "reverse": reverse}
    last, ys = run(cell, params, xs, state, **how)
    assert_close((tuple(last), ys), references.run(reference, to_numpy(params), xs, to_numpy(flat(state)), **how))


@given(name=names, reverse=directions, seed=seeds, steps=steps_of_any_batch)
def test_equals_the_reference(name, reverse, seed, steps):
    equals_the_reference(name, reverse, seed, steps)


@pytest.mark.slow
@settings(max_examples=60)
@given(name=st.sampled_from(list(CELLS)), reverse=directions, seed=seeds, steps=steps_of_any_batch)
def test_cells_of_all_kinds_equal_the_reference(name, reverse, seed, steps):
    equals_the_reference(name, reverse, seed, steps)


@given(name=names, reverse=directions, seed=seeds, lengths=lengths_of(3), resets=resets_of(3), value=garbage)
def test_padding_never_matters(name, reverse, seed, lengths, resets, value):
    cell = CELLS[name].cell
    params, xs = draw_params(cell, seed), draw(TIME, 3, INPUT, seed=seed)
    state = draw_state(cell, params, (3,), seed)
    padding = np.arange(TIME)[:, None] >= lengths
    other_xs = np.where(padding[..., None], value, xs)
    other_resets = resets ^ padding
    how = {"lengths": lengths, "reverse": reverse}
    one = run_with_gradients(cell, params, xs, state, resets=resets, **how)
    other = run_with_gradients(cell, params, other_xs, state, resets=other_resets, **how)
    jax.tree.map(np.testing.assert_array_equal, one, other)  # bit by bit
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(other))
    (_, (_, ys)), (_, grad_xs, _) = other
    assert not ys[padding].any()
    assert not grad_xs[padding].any()


@given(name=names, reverse=directions, seed=seeds, resets=resets_of(), length=st.integers(0, TIME))
def test_resets_equal_separate_sequences(name, reverse, seed, resets, length):
    cell, reference = CELLS[name].cell, CELLS[name].reference
    params, xs = draw_params(cell, seed), draw(TIME, INPUT, seed=seed)
    state = draw_state(cell, params, (), seed)
    last, ys = run(cell, params, xs, state, lengths=np.array(length), resets=resets, reverse=reverse)

    order = list(range(length))[:: -1 if reverse else 1]
    cuts = [t + 1 < length and resets[t + 1] if reverse else resets[t] for t in order]
    begins = [n for n, cut in enumerate(cuts) if n == 0 or cut]
    expected = np.zeros(ys.shape)
    now = to_numpy(tuple(state))
    for n, end in zip(begins, [*begins, length][1:], strict=True):
        piece = order[n:end]
        begin = None if cuts[n] else to_numpy(tuple(state))
        now, expected[piece] = references.run(reference, to_numpy(params), xs[piece], begin)
    assert_close((tuple(last), ys), (now, expected))


@given(name=names, seed=seeds, lengths=lengths_of(3))
def test_reversed_twice_is_forward(name, seed, lengths):
    cell = CELLS[name].cell
    params, xs = draw_params(cell, seed), draw(TIME, 3, INPUT, seed=seed)

    def flip(array):
        """Each sequence within its length."""
        array = np.array(array)
        for n, length in enumerate(lengths):
            array[:length, n] = array[:length, n][::-1]
        return array

    last, ys = run(cell, params, xs, lengths=lengths, reverse=False)
    other_last, other_ys = run(cell, params, flip(xs), lengths=lengths, reverse=True)
    assert_close((last, ys), (other_last, flip(other_ys)))


@pytest.mark.slow
@given(name=names, reverse=directions, seed=seeds, lengths=lengths_of(3), resets=resets_of(3), cut=st.integers(0, TIME))
def test_a_run_can_be_cut_in_time(name, reverse, seed, lengths, resets, cut):
    cell = CELLS[name].cell
    params, xs = draw_params(cell, seed), draw(TIME, 3, INPUT, seed=seed)
    state = draw_state(cell, params, (3,), seed)
    last, ys = run(cell, params, xs, state, lengths=lengths, resets=resets, reverse=reverse)

    early = {"xs": xs[:cut], "resets": resets[:cut], "lengths": np.minimum(lengths, cut)}
    late = {"xs": xs[cut:], "resets": resets[cut:], "lengths": np.maximum(lengths - cut, 0)}
    parts = []
    for part in (late, early) if reverse else (early, late):
        state, ys_of_part = run(cell, params, state=state, reverse=reverse, **part)
        parts.append(ys_of_part)
        if reverse and part is late and 0 < cut < TIME:  # a sequence that begins at the cut has been read
            begin = resets[cut] & (cut < lengths)
            state = jaxrnn.ops.where(~begin, state, cell.initial_state(params, (3,)))
    assert_close((state, np.concatenate(parts[::-1] if reverse else parts)), (last, ys))


@pytest.mark.slow
@given(name=names, reverse=directions, seed=seeds, lengths=lengths_of(2, 3), resets=resets_of(2, 3))
def test_two_batch_axes_equal_one(name, reverse, seed, lengths, resets):
    cell = CELLS[name].cell
    params, xs = draw_params(cell, seed), draw(TIME, 2, 3, INPUT, seed=seed)
    last, ys = run(cell, params, xs, lengths=lengths, resets=resets, reverse=reverse)
    flat = {"lengths": lengths.reshape(6), "resets": resets.reshape(TIME, 6)}
    flat_last, flat_ys = run(cell, params, xs.reshape(TIME, 6, INPUT), reverse=reverse, **flat)
    assert_close(ys.reshape(TIME, 6, -1), flat_ys)
    assert_close(jax.tree.map(lambda leaf: leaf.reshape(6, -1), last), flat_last)
