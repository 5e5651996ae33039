"""What `unroll` promises, for cells: against the NumPy references and against hand-made inputs."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxrnn
from jaxrnn import GRU, LSTM, LearnedInitialState, unroll
from jaxrnn.loops import Scan
from tests.cells.test_gru import gru
from tests.cells.test_lstm import lstm
from tests.support import references
from tests.support.cases import LINEAR_LOOPS, LOOPS, examples, selected_cells
from tests.support.comparisons import assert_close, flat, to_numpy
from tests.support.inputs import INPUT, draw, draw_params, draw_state
from tests.support.tiers import slow_but
from tests.wrappers.test_learned_initial_state import learned_initial_state

pytestmark = pytest.mark.usefixtures("x64", "quick")
CELLS = selected_cells()
TIME, BATCH = 5, 3

over_cells = pytest.mark.parametrize("name", slow_but(CELLS, ["LSTM", "LearnedInitialState", "Zoneout"]))
both_ways = pytest.mark.parametrize("reverse", [False, True], ids=["forward", "reverse"])
run = jax.jit(unroll, static_argnums=0, static_argnames=("reverse", "loop"))


@both_ways
@over_cells
def test_lengths_and_resets_equal_the_reference(name, reverse):
    cell, reference = CELLS[name].cell, CELLS[name].reference
    params = draw_params(cell)
    xs, state = draw(TIME, BATCH, INPUT), draw_state(cell, params, (BATCH,))
    how = {"lengths": np.array([5, 0, 3]), "resets": draw(TIME, BATCH) > 0.3, "reverse": reverse}
    expected = references.run(reference, to_numpy(params), xs, to_numpy(flat(state)), **how)
    last, ys = run(cell, params, xs, state, **how)
    assert_close((tuple(last), ys), expected)


@both_ways
@pytest.mark.parametrize("batch_shape", [(), (2,), (2, 3), (1, 2, 2)], ids=str)
def test_any_number_of_batch_axes(batch_shape, reverse):
    cell, reference = CELLS["LSTM"].cell, CELLS["LSTM"].reference
    params, xs = draw_params(cell), draw(TIME, *batch_shape, INPUT)
    lengths = np.random.default_rng(0).integers(0, TIME + 1, batch_shape)
    how = {"lengths": lengths, "resets": draw(TIME, *batch_shape) > 0.3, "reverse": reverse}
    last, ys = unroll(cell, params, xs, **how)
    assert ys.shape == (TIME, *batch_shape, 4)
    assert_close((tuple(last), ys), references.run(reference, to_numpy(params), xs, **how))


@both_ways
@pytest.mark.parametrize("cell", [LSTM(2), LearnedInitialState(GRU(3))], ids=["LSTM", "LearnedInitialState"])
def test_gradient_through_lengths_and_resets(cell, reverse):
    reference = lstm(2) if cell == LSTM(2) else learned_initial_state(gru(3))
    params = draw_params(cell, input_size=2)
    leaves, tree = jax.tree.flatten((params, draw(4, BATCH, 2), draw_state(cell, params, (BATCH,))))
    resets = np.array([[0, 0, 1], [1, 0, 0], [0, 1, 1], [0, 1, 0]], bool)
    how = {"lengths": np.array([4, 0, 3]), "resets": resets, "reverse": reverse}

    def expected(leaves):
        params, xs, state = jax.tree.unflatten(tree, leaves)
        last, ys = references.run(reference, params, xs, tuple(state), **how)
        return (ys**2).sum() + sum((leaf**3).sum() for leaf in last)

    @jax.jit
    def loss(leaves):
        params, xs, state = jax.tree.unflatten(tree, leaves)
        last, ys = unroll(cell, params, xs, state, **how)
        return (ys**2).sum() + sum((leaf**3).sum() for leaf in last)

    assert_close(jax.grad(loss)(leaves), references.gradient(expected, to_numpy(leaves)), rtol=1e-11)


@both_ways
@over_cells
def test_length_zero_returns_the_initial_state_and_zeros(name, reverse):
    cell = CELLS[name].cell
    params, xs = draw_params(cell), draw(TIME, BATCH, INPUT)
    for state in (None, draw_state(cell, params, (BATCH,))):
        last, ys = run(cell, params, xs, state, lengths=np.array([0, 5, 0]), reverse=reverse)
        begin = cell.initial_state(params, (BATCH,)) if state is None else state
        for leaf, first in zip(flat(last), flat(begin), strict=True):
            np.testing.assert_array_equal(leaf[0], first[0])
            np.testing.assert_array_equal(leaf[2], first[2])
            assert (leaf[1] != first[1]).all()
        assert not ys[:, 0].any()
        assert ys[:, 1].any()


def test_reverse_outputs_stay_aligned_with_inputs():
    cell, reference = CELLS["GRU"].cell, CELLS["GRU"].reference
    params, xs = draw_params(cell), draw(TIME, INPUT)
    (h,), ys = unroll(cell, params, xs, reverse=True)
    _, expected = references.run(reference, to_numpy(params), xs[::-1])
    np.testing.assert_allclose(ys, expected[::-1], rtol=1e-12)
    np.testing.assert_array_equal(h, ys[0])  # the step read last is the first


PARTS = [slice(0, 2), slice(2, 4), slice(4, 6)]
BEGINS = np.array([0, 0, 1, 0, 1, 0], bool)


@both_ways
@pytest.mark.parametrize("loop", [Scan(), *LOOPS.values()], ids=["scan", *LOOPS])
def test_resets_cut_the_sequence_at_the_same_place_in_both_directions(loop, reverse):
    cell, reference = CELLS["LSTM"].cell, CELLS["LSTM"].reference
    params, xs = draw_params(cell), draw(6, INPUT)
    state = draw_state(cell, params, ())
    (h, c), ys = run(cell, params, xs, state, resets=BEGINS, reverse=reverse, loop=loop)
    for n, part in enumerate(PARTS):
        begin = tuple(state) if n == (2 if reverse else 0) else None
        last, expected = references.run(reference, to_numpy(params), xs[part], begin, reverse=reverse)
        assert_close(ys[part], expected)
    if reverse:
        last, _ = references.run(reference, to_numpy(params), xs[PARTS[0]], reverse=True)
    assert_close((h, c), last)


@both_ways
@pytest.mark.parametrize("loop", LINEAR_LOOPS.values(), ids=LINEAR_LOOPS)
def test_resets_cut_linear_cells_at_the_same_place(loop, reverse):
    cell = jaxrnn.MinGRU(4)
    params, xs = draw_params(cell), draw(6, INPUT)
    _, ys = run(cell, params, xs, resets=BEGINS, reverse=reverse, loop=loop)
    assert_close(ys, np.concatenate([run(cell, params, xs[part], reverse=reverse)[1] for part in PARTS]))


@both_ways
@pytest.mark.parametrize("name", [name for name in examples() if name != "Sliced"])  # which refuses resets
def test_resets_cut_every_layer_at_the_same_place(name, reverse):
    layer = examples()[name]
    params, xs = draw_params(layer), draw(6, INPUT)
    _, ys = run(layer, params, xs, resets=BEGINS, reverse=reverse)
    assert_close(ys, np.concatenate([run(layer, params, xs[part], reverse=reverse)[1] for part in PARTS]))


def test_a_reset_at_the_end_of_a_padded_sequence_has_no_effect():
    cell = LSTM(4)
    params, xs = draw_params(cell), draw(6, INPUT)
    state, length = draw_state(cell, params, ()), np.array(4)
    for reverse in (False, True):
        how = {"lengths": length, "reverse": reverse}
        found = run(cell, params, xs, state, resets=BEGINS & (np.arange(6) >= 4), **how)
        assert_close(found, run(cell, params, xs, state, **how))


def test_step_restarts_where_a_sequence_begins():
    cell = LSTM(4)
    params, xs, resets = draw_params(cell), draw(TIME, BATCH, INPUT), draw(TIME, BATCH) > 0.3
    state = draw_state(cell, params, (BATCH,))
    last, ys = run(cell, params, xs, state, resets=resets)
    for x, reset, y in zip(xs, resets, ys, strict=True):
        state, now = jaxrnn.step(cell, params, state, x, resets=reset)
        assert_close(now, y)
    assert_close(state, last)
    with pytest.raises(ValueError, match=r"resets must have the shape \[time, \*batch\] = \(1, 3\), not \(1, 2\)"):
        jaxrnn.step(cell, params, state, xs[0], resets=resets[0, :2])


@both_ways
@over_cells
def test_a_reset_does_not_let_nan_survive(name, reverse):
    cell = CELLS[name].cell
    params, xs = draw_params(cell), draw(TIME, BATCH, INPUT)
    read_before = slice(2, None) if reverse else slice(0, 2)
    read_after = slice(0, 2) if reverse else slice(2, None)
    broken = xs.copy()
    broken[read_before, 0] = np.nan
    resets = np.zeros((TIME, BATCH), bool)
    resets[2] = True
    last, ys = run(cell, params, broken, resets=resets, reverse=reverse)
    expected_last, expected_ys = run(cell, params, xs, resets=resets, reverse=reverse)
    assert np.isnan(ys[read_before, 0]).all()
    np.testing.assert_array_equal(ys[read_after], expected_ys[read_after])
    jax.tree.map(np.testing.assert_array_equal, last, expected_last)


@over_cells
def test_a_reset_at_the_first_step_shields_from_a_nan_state_in_value_and_gradient(name):
    cell = CELLS[name].cell
    params, xs = draw_params(cell), draw(TIME, BATCH, INPUT)
    resets = np.zeros((TIME, BATCH), bool)
    resets[0] = True

    @jax.jit
    @partial(jax.value_and_grad, argnums=(0, 1, 2))
    def loss(params, xs, state):
        last, ys = unroll(cell, params, xs, state, resets=resets)
        return (ys**2).sum() + sum(leaf.sum() for leaf in jax.tree.leaves(last))

    broken = jax.tree.map(lambda leaf: jnp.full_like(leaf, jnp.nan), cell.initial_state(params, (BATCH,)))
    one, other = loss(params, xs, broken), loss(params, xs, draw_state(cell, params, (BATCH,)))
    jax.tree.map(np.testing.assert_array_equal, one, other)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(one))
    assert not any(leaf.any() for leaf in jax.tree.leaves(one[1][2]))


def test_arguments_may_be_traced_or_plain_python():
    cell, params, xs = LSTM(4), draw_params(LSTM(4)), draw(TIME, 2, INPUT)
    resets = [[True, False]] * TIME
    expected = unroll(cell, params, xs, lengths=np.array([2, 5]), resets=np.array(resets))
    assert_close(unroll(cell, params, xs, lengths=[2, 5], resets=resets), expected)
    assert_close(run(cell, params, xs, lengths=np.array([2, 5], np.int8), resets=np.array(resets)), expected)
    over_lengths = jax.vmap(lambda x, n, r: unroll(cell, params, x, lengths=n, resets=r), in_axes=(1, 0, 1))
    last, ys = over_lengths(xs, np.array([2, 5]), np.array(resets))
    assert_close((last, ys.swapaxes(0, 1)), expected)


def test_forward_mode_runs_on_scan():
    cell, params, xs = LSTM(4), draw_params(LSTM(4)), draw(TIME, INPUT)

    def total(params):
        return unroll(cell, params, xs, loop=Scan())[1].sum()

    direction = jax.tree.map(lambda leaf: draw(*leaf.shape, seed=3), params)
    _, slope = jax.jvp(total, (params,), (direction,))
    gradient = jax.grad(total)(params)
    expected = sum((g * d).sum() for g, d in zip(gradient, direction, strict=True))
    np.testing.assert_allclose(slope, expected, rtol=1e-12)


def test_lengths_may_be_a_constant_of_a_jitted_function():
    cell, lengths = GRU(4), jnp.array([2, 0, 5])
    params, xs = draw_params(cell), draw(TIME, BATCH, INPUT)
    jitted = jax.jit(lambda xs: unroll(cell, params, xs, lengths=lengths))(xs)
    assert_close(jitted, unroll(cell, params, xs, lengths=lengths))


@pytest.mark.parametrize(("dtype", "time"), [(np.int8, 130), (np.uint8, 256)], ids=["int8", "uint8"])
def test_traced_lengths_may_be_narrower_than_the_time_axis(dtype, time):
    cell = GRU(2)
    params, xs, lengths = draw_params(cell), draw(time, 3, INPUT), np.array([100, 0, 7])
    expected = unroll(cell, params, xs, lengths=lengths)
    assert_close(run(cell, params, xs, lengths=lengths.astype(dtype)), expected)
