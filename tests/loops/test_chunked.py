"""`Chunked`: cells with a matrix as state, many steps at once, give the same results as one step after the other."""

import itertools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import export

import jaxrnn
from jaxrnn import unroll
from jaxrnn.loops import Auto, Chunked, Scan
from jaxrnn.loops._stacking import stacking_scan
from tests.support.cases import cell_cases, variants
from tests.support.comparisons import assert_close
from tests.support.inputs import INPUT, draw, draw_inputs, draw_params, draw_state
from tests.support.loops import BATCH, LENGTHS, RESETS, TIME, compare, value_and_gradients
from tests.support.tiers import slow

pytestmark = pytest.mark.usefixtures("x64", "quick")

ALL = cell_cases() | variants()
MATRIX_CELLS = {name: case.cell for name, case in ALL.items() if isinstance(case.cell, jaxrnn.MatrixCell)}
COMBINATIONS = list(itertools.product((0, 1), (0, 1), (False, True)))
REPRESENTATIVES = ("DeltaNet", "GatedLinearAttention", "MLSTM", "RWKV7", "Retention")


def test_there_are_cells_of_this_kind():
    assert set(REPRESENTATIVES) < set(MATRIX_CELLS)


@pytest.mark.parametrize(
    ("name", "lengths", "resets", "reverse"),
    [
        (name, *which) if name in REPRESENTATIVES and which == (1, 1, True) else slow(name, *which)
        for name in MATRIX_CELLS
        for which in (COMBINATIONS if name in REPRESENTATIVES else [(0, 0, False), (1, 1, True)])
    ],
)
def test_equals_scan_under_every_combination(name, lengths, resets, reverse):
    how = {"lengths": LENGTHS[lengths], "resets": RESETS[resets], "reverse": reverse}
    compare(MATRIX_CELLS[name], Chunked(chunk=4), key=None, input_size=ALL[name].reference.input_size, **how)


@pytest.mark.parametrize("time", [0, slow(1), slow(4), 5, slow(9)])
def test_equals_scan_at_other_lengths(time):
    cell = jaxrnn.GatedDeltaNet(4, num_heads=2)
    params = draw_params(cell)
    args = params, draw(time, BATCH, INPUT), draw_state(cell, params, (BATCH,))
    one, other = (value_and_gradients(cell, loop, args, None, None, None, reverse=True) for loop in (CHUNKED, Scan()))
    assert_close(one, other, rtol=1e-9)


CHUNKED = Chunked(chunk=4)
MANY_SEQUENCES = 130  # so that the inputs of each chunk are projected on their own


@pytest.mark.parametrize(
    ("name", "reverse"),
    [(name, True) if name in ("DeltaNet", "GatedLinearAttention") else slow(name, True) for name in MATRIX_CELLS]
    + [slow(name, False) for name in REPRESENTATIVES],
)
def test_equals_scan_with_many_sequences(name, reverse):
    cell, input_size = MATRIX_CELLS[name], ALL[name].reference.input_size
    rng = np.random.default_rng(0)
    params = draw_params(cell, input_size=input_size)
    args = params, draw_inputs(input_size, TIME, MANY_SEQUENCES), draw_state(cell, params, (MANY_SEQUENCES,))
    lengths, resets = rng.integers(0, TIME + 1, MANY_SEQUENCES), rng.random((TIME, MANY_SEQUENCES)) < 0.2
    one, other = (
        value_and_gradients(cell, loop, args, None, lengths, resets, reverse=reverse) for loop in (CHUNKED, Scan())
    )
    assert_close(one, other, rtol=1e-9)


def test_memory_with_many_sequences():
    cell = jaxrnn.DeltaNet(32)
    params = draw_params(cell, input_size=32)

    def temporaries(time):
        def loss(params, xs):
            return (unroll(cell, params, xs, loop=CHUNKED)[1] ** 2).sum()

        compiled = jax.jit(jax.grad(loss, (0, 1))).lower(params, draw(time, MANY_SEQUENCES, 32)).compile()
        return compiled.memory_analysis().temp_size_in_bytes

    of_one_array = 64 * MANY_SEQUENCES * 32 * 8  # [64, MANY_SEQUENCES, 32]
    saved = 64 // 4 * MANY_SEQUENCES * 32 * 32 * 8  # the matrices between chunks
    assert temporaries(128) - temporaries(64) < saved + 4 * of_one_array  # all projections alone are three arrays


@pytest.mark.parametrize("loop", [Chunked(), Chunked(chunk=1), Chunked(chunk=3), Chunked(chunk=2, checkpoint_every=5)])
def test_the_size_of_chunks_changes_nothing(loop):
    cell = jaxrnn.GatedLinearAttention(4)
    params, xs = draw_params(cell), draw(TIME, BATCH, INPUT)
    assert_close(unroll(cell, params, xs, loop=loop), unroll(cell, params, xs, loop=Scan()), rtol=1e-9)


def test_several_batch_axes_none_and_vmap():
    cell = jaxrnn.MLSTM(4, num_heads=2)
    params, xs = draw_params(cell), draw(TIME, 2, 3, INPUT)
    _, ys = unroll(cell, params, xs, loop=CHUNKED)
    assert_close(ys, unroll(cell, params, xs, loop=Scan())[1], rtol=1e-9)
    assert_close(ys[:, 1, 2], unroll(cell, params, xs[:, 1, 2], loop=CHUNKED)[1], rtol=1e-9)
    over_batch = jax.vmap(lambda xs: unroll(cell, params, xs, loop=CHUNKED)[1], in_axes=1, out_axes=1)
    assert_close(ys, over_batch(xs), rtol=1e-9)


@pytest.mark.parametrize("name", REPRESENTATIVES)
def test_a_prompt_at_once_and_then_single_steps(name):
    cell = MATRIX_CELLS[name]
    params, xs = draw_params(cell), draw(TIME, BATCH, INPUT)
    _, expected = unroll(cell, params, xs, loop=Scan())
    state, ys = unroll(cell, params, xs[:6], loop=CHUNKED)
    assert_close(ys, expected[:6], rtol=1e-9)
    for x, y in zip(xs[6:], expected[6:], strict=True):
        state, found = jaxrnn.step(cell, params, state, x)
        assert_close(found, y, rtol=1e-9)


class Given(jaxrnn.MatrixCell):
    """A cell whose input consists of its factors: q, k, v and the logarithm of the decay of each key."""

    state_type = jaxrnn.DeltaNet.state_type
    delta = False

    def init(self, key, input_size):
        return ()

    def initial_state(self, params, batch_shape=(), dtype=None):
        return self.state_type(jnp.zeros((*batch_shape, 2, 2), dtype or jnp.result_type(float)))

    def project(self, params, x, key=None):
        return x

    def update(self, params, z):
        q, k, v, log_decay = jnp.split(z, 4, axis=-1)
        return jaxrnn.MatrixUpdate(q, k, v, log_decay)

    def output(self, params, read, z):
        return read.values


class GivenForAllKeys(Given):
    def update(self, params, z):
        update = super().update(params, z)
        return update._replace(log_decay=update.log_decay[..., :1])


class StabilizedState(NamedTuple):
    s: Any
    m: Any


class Stabilized(Given):
    state_type = StabilizedState
    has_stabilizer = True

    def initial_state(self, params, batch_shape=(), dtype=None):
        return StabilizedState(jnp.zeros((*batch_shape, 2, 2)), jnp.zeros(batch_shape))


class GivenLinear(jaxrnn.LinearMatrixCell, Given):
    pass


@pytest.mark.parametrize("cell", [Given(), GivenForAllKeys()], ids=["each key", "all keys"])
@pytest.mark.parametrize("decays", ["near 0", "near 1", "both", "0"])
def test_decays_near_0_and_1_are_exact(cell, decays):
    rng = np.random.default_rng(0)
    log = {
        "near 0": -rng.uniform(50, 2000, (40, 2, 2)),
        "near 1": -rng.uniform(0, 1e-6, (40, 2, 2)),
        "both": np.where(rng.random((40, 2, 2)) < 0.3, -1e4, -1e-4),
        "0": np.where(rng.random((40, 2, 2)) < 0.3, -np.inf, -0.1),
    }[decays]
    xs = np.concatenate([rng.standard_normal((40, 2, 6)), log], -1).astype(np.float32)

    def run(loop, xs):
        return jax.value_and_grad(lambda xs: (unroll(cell, (), xs, loop=loop)[1] ** 2).sum())(xs)

    exact = run(Scan(), xs.astype(np.float64))
    value, gradient = run(Chunked(chunk=16), jnp.asarray(xs))
    np.testing.assert_allclose(value, exact[0], rtol=2e-6)
    np.testing.assert_allclose(gradient, exact[1], rtol=2e-5, atol=2e-5)


@pytest.mark.parametrize("name", [slow(name) if name != "DeltaNet" else name for name in MATRIX_CELLS])
def test_float32_is_as_close_to_float64_as_scan_is(name):
    cell, time = MATRIX_CELLS[name], 300 if name == "DeltaNet" else 4096
    params = jax.tree.map(np.asarray, cell.init(jax.random.key(0), ALL[name].reference.input_size))
    xs = draw(time, 2, *np.atleast_1d(ALL[name].reference.input_size))

    def run(loop, dtype):
        how = jax.tree.map(lambda leaf: jnp.asarray(leaf, dtype), (params, xs))
        value = jax.jit(jax.value_and_grad(lambda params, xs: (unroll(cell, params, xs, loop=loop)[1] ** 2).mean()))
        return value(*how)

    exact, scan, chunked = run(Scan(), np.float64), run(Scan(), np.float32), run(Chunked(), np.float32)
    for e, s, c in zip(*map(jax.tree.leaves, (exact, scan, chunked)), strict=True):
        scale = np.abs(e).max()
        assert np.abs(c - e).max() <= 2 * np.abs(s - e).max() + 1e-6 * scale


def test_low_precision():
    cell = jaxrnn.MLSTM(8, num_heads=2)
    params, xs = draw_params(cell), draw(100, 2, INPUT)
    exact = unroll(cell, params, xs, loop=Scan())[1]
    low = jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.bfloat16), (params, xs))
    state, ys = unroll(cell, *low, loop=Chunked())
    assert {leaf.dtype for leaf in jax.tree.leaves((state, ys))} == {np.dtype(jnp.bfloat16)}
    np.testing.assert_allclose(ys.astype(np.float64), exact, atol=0.05 * np.abs(exact).max())


def test_the_memory_is_not_rounded_between_chunks():
    cell = jaxrnn.DeltaNet(4, num_heads=2)
    params = jax.tree.map(lambda p: p.astype(jnp.float32), draw_params(cell))
    xs = draw(40, MANY_SEQUENCES, INPUT)  # float64
    ys = unroll(cell, params, xs, loop=CHUNKED)[1]
    exact = unroll(cell, jax.tree.map(lambda p: p.astype(np.float64), params), xs, loop=Scan())[1]
    assert ys.dtype == np.float64
    np.testing.assert_allclose(ys, exact, rtol=1e-9, atol=1e-9)


def test_gradients_are_summed_over_chunks_in_float32_on_every_backend(monkeypatch):
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")  # where arrays of low precision are not widened

    def loss(constant):
        def body(constant, carry, x):
            return carry, constant * x

        return stacking_scan(body, constant, (), jnp.ones(4096, jnp.bfloat16), length=4096)[1].astype(jnp.float32).sum()

    assert jax.grad(loss)(jnp.ones((), jnp.bfloat16)) == 4096  # a sum in bfloat16 ends at 256, as 256 + 1 is rounded


def test_a_size_of_chunks_from_numpy():
    cell = jaxrnn.DeltaNet(4)
    params, xs = draw_params(cell), draw(TIME, BATCH, INPUT)
    assert_close(unroll(cell, params, xs, loop=Chunked(chunk=np.int64(4))), unroll(cell, params, xs, loop=CHUNKED))


@pytest.mark.parametrize("name", [slow(name) if name == "RWKV7" else name for name in REPRESENTATIVES])
def test_nan_stays_in_its_sequence(name):
    cell = MATRIX_CELLS[name]
    params, xs = draw_params(cell), draw(TIME, BATCH, INPUT)
    xs[5, 1] = np.nan
    resets = np.zeros((TIME, BATCH), bool)
    resets[7, 1] = True

    def loss(params, xs, loop, number):
        ys = unroll(cell, params, xs, resets=resets, loop=loop)[1]
        return (ys[:, 1][jnp.r_[:5, 7:TIME]] ** 2).sum() + (ys[:number, 0] ** 2).sum(), ys

    run = jax.value_and_grad(loss, argnums=(0, 1), has_aux=True)
    (value, ys), gradient = run(params, xs, CHUNKED, TIME)
    (expected, expected_ys), expected_gradient = run(params, xs, Scan(), TIME)
    np.testing.assert_array_equal(np.isnan(ys), np.isnan(expected_ys))
    assert np.isnan(ys[5:7, 1]).all()
    assert np.isfinite(value)
    assert_close((value, gradient), (expected, expected_gradient), rtol=1e-9)
    assert np.isnan(jax.grad(lambda xs: unroll(cell, params, xs, loop=CHUNKED)[1].sum())(xs)[:5, 1]).any()


@pytest.mark.parametrize("time", [0, 5])
def test_a_sequence_without_steps_keeps_its_state_even_if_a_part_of_it_is_nan(time):
    cell = jaxrnn.DeltaNet(4)
    params = draw_params(cell)
    state = jax.tree.map(lambda s: s.at[0, 0, 1, 2].set(jnp.nan), draw_state(cell, params, (BATCH,)))
    lengths = np.zeros(BATCH, int)
    found, _ = unroll(cell, params, draw(time, BATCH, INPUT), state, lengths=lengths, loop=CHUNKED)
    np.testing.assert_array_equal(found.s, state.s)


def test_other_derivatives():
    cell = jaxrnn.DeltaNet(4)
    params, xs = draw_params(cell), draw(TIME, INPUT)

    def loss(params, loop):
        return (unroll(cell, params, xs, loop=loop)[1] ** 3).sum()

    def derivatives(loop):
        forward = jax.jvp(lambda p: loss(p, loop), (params,), (params,))[1]
        return forward, jax.grad(lambda p: sum((g**2).sum() for g in jax.grad(loss)(p, loop)))(params)

    assert_close(derivatives(CHUNKED), derivatives(Scan()), rtol=1e-8)


WRONG = {  # factors that do not fit together
    "erase without read": (Given, {"erase": 1}, "return read with erase, but it returns erase without read"),
    "gain without stabilizer": (Given, {"log_gain": 0}, "not return a log_gain, because has_stabilizer is False"),
    "stabilizer without gain": (Stabilized, {}, "return a log_gain, because has_stabilizer is True"),
    "decays with stabilizer": (Stabilized, {"log_gain": 0}, "return one log_decay for all keys .* but its shape is"),
    "rotating delta rule": (Given, {"read": 1, "erase": 1, "angle": 1}, "return read or an angle, but it"),
    "complex keys": (Given, {"k": 1j}, "return complex keys with an angle and real ones without, but their dtype is"),
    "real keys": (Given, {"angle": 1}, "return complex keys with an angle and real ones without, but their dtype is"),
    "linear": (GivenLinear, {"read": 1, "erase": 1}, "not return read in a LinearMatrixCell"),
}


@pytest.mark.parametrize("loop", [Scan(), Chunked()], ids=repr)
@pytest.mark.parametrize(("kind", "factors", "message"), WRONG.values(), ids=WRONG)
def test_factors_that_do_not_fit_together_are_refused(kind, factors, message, loop):
    class Wrong(kind):
        def update(self, params, z):
            update = super().update(params, z)
            log_gain = {"log_gain": update.q[..., 0]} if "log_gain" in factors else {}
            return update._replace(**{name: value * update.q for name, value in factors.items()} | log_gain)

    with pytest.raises(ValueError, match=f"^Wrong.update must {message}"):
        unroll(Wrong(), (), draw(TIME, 8), loop=loop)


def test_auto_chooses_it():
    cell = jaxrnn.DeltaNet(4)
    params = draw_params(cell)
    (choice,) = Auto(checkpoint_every=5).choose(cell, params, draw(TIME, INPUT))
    assert choice.loop == Chunked(checkpoint_every=5)
    (choice,) = Auto().choose(cell, params, draw(2, INPUT))
    assert not isinstance(choice.loop, Chunked)


def test_errors():
    cell = jaxrnn.GRU(4)
    with pytest.raises(TypeError, match=r"Chunked runs cells that add outer products .* loop=jaxrnn\.loops\.Auto"):
        unroll(cell, draw_params(cell), draw(TIME, INPUT), loop=Chunked())
    with pytest.raises(ValueError, match="Chunked's chunk must be a positive integer, but it is 0"):
        Chunked(chunk=0)
    cell = jaxrnn.DeltaNet(4)
    with pytest.raises(TypeError, match="Chunked does not compute the states of all steps"):
        jaxrnn.states_over_time(cell, draw_params(cell), draw(TIME, INPUT), loop=Chunked())


@pytest.mark.parametrize("batch", [(0,), (2, 0)])
def test_a_batch_of_no_sequences(batch):
    cell = jaxrnn.DeltaNet(4, num_heads=2)
    params = cell.init(jax.random.key(0), 3)

    def loss(params):
        state, ys = jaxrnn.unroll(cell, params, jnp.zeros((5, *batch, 3)), loop=Chunked(chunk=4))
        return ys.sum(), (state, ys)

    gradient, (state, ys) = jax.grad(loss, has_aux=True)(params)
    assert ys.shape == (5, *batch, 4)
    assert state[0].shape == cell.initial_state(params, batch)[0].shape
    assert all((g == 0).all() for g in jax.tree.leaves(gradient))


def test_a_symbolic_batch_axis():
    cell = jaxrnn.DeltaNet(4, num_heads=2)
    params = draw_params(cell)
    run = jax.jit(lambda xs: unroll(cell, params, xs, loop=CHUNKED)[1])
    exported = export.export(run)(jax.ShapeDtypeStruct(export.symbolic_shape(f"{TIME}, batch, {INPUT}"), np.float64))
    for batch in BATCH, MANY_SEQUENCES:
        xs = draw(TIME, batch, INPUT)
        assert_close(exported.call(xs), run(xs), rtol=1e-9)


def test_a_symbolic_length_is_refused():
    cell = jaxrnn.DeltaNet(4, num_heads=2)
    params = cell.init(jax.random.key(0), 3)
    xs = jax.ShapeDtypeStruct(export.symbolic_shape("time, 2, 3"), jnp.float32)
    run = jax.jit(lambda xs: unroll(cell, params, xs, loop=Chunked()))
    with pytest.raises(TypeError, match=r"Chunked needs a length that is known, but under jax.export it is symbolic"):
        export.export(run)(xs)


@pytest.mark.parametrize("batch", [2, MANY_SEQUENCES])
def test_inputs_of_a_higher_precision_than_the_state(batch):
    cell = jaxrnn.DeltaNet(4, num_heads=2)
    params = jax.tree.map(lambda p: p.astype(jnp.float32), cell.init(jax.random.key(0), 3))
    xs = jax.random.normal(jax.random.key(1), (9, batch, 3), jnp.float64)
    chunked, scanned = (unroll(cell, params, xs, loop=loop) for loop in (Chunked(chunk=4), Scan()))
    for x, y in zip(jax.tree.leaves(chunked), jax.tree.leaves(scanned), strict=True):
        assert x.dtype == y.dtype
        np.testing.assert_allclose(x, y, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("loop", [CHUNKED, Scan()], ids=["chunked", "scan"])
def test_a_cell_that_shifts_must_say_how(loop):
    class ShiftedState(NamedTuple):
        s: Any
        now: Any
        before: Any

    class Shifts(Given):
        state_type = ShiftedState
        shifts = True

        def initial_state(self, params, batch_shape=(), dtype=None):
            return ShiftedState(jnp.zeros((*batch_shape, 2, 2)), jnp.zeros((*batch_shape, 8)), jnp.zeros(batch_shape))

    with pytest.raises(TypeError, match="Shifts must define shift and passed_on, because its shifts is True"):
        unroll(Shifts(), (), jnp.zeros((9, 2, 8)), loop=loop)


def test_a_matrix_that_overflows_does_not_affect_the_sequence_after_a_reset():
    cell = MATRIX_CELLS["LinearAttention"]
    params = jax.tree.map(lambda x: x.astype(jnp.float32), draw_params(cell))
    xs = jnp.asarray(draw(9, BATCH, INPUT), jnp.float32).at[1, 0].multiply(1e30)
    resets = jnp.zeros((9, BATCH), bool).at[6, 0].set(True)

    def run(xs, loop):
        ys = unroll(cell, params, xs, resets=resets, loop=loop)[1]
        return (ys[6:, 0] ** 2).sum() + (ys[:, 1:] ** 2).sum(), ys

    (loss, ys), gradient = jax.value_and_grad(run, has_aux=True)(xs, CHUNKED)
    (other_loss, other_ys), other = jax.value_and_grad(run, has_aux=True)(xs, Scan())
    assert np.isfinite(loss)
    assert not np.isfinite(ys[5, 0]).all()
    for one, two in ((loss, other_loss), (ys[6:, 0], other_ys[6:, 0]), (gradient, other)):
        np.testing.assert_allclose(one, two, rtol=1e-4, atol=1e-5)
