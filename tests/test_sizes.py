"""Sizes that are easily forgotten: no steps, one step, an empty batch, one unit, one feature."""

import functools
import math
from dataclasses import fields
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxrnn
from jaxrnn import LSTM, Elman, MinGRU, convert, unroll
from jaxrnn.loops import AssociativeScan, Deferred, Newton, Scan
from tests.support.cases import cases, cell_cases, examples, variants
from tests.support.comparisons import assert_close, to_numpy
from tests.support.conversions import assert_same, params_of
from tests.support.inputs import INPUT, draw, draw_params, draw_state
from tests.support.tiers import REPRESENTATIVES, slow_but

pytestmark = pytest.mark.usefixtures("x64", "quick")
TIME = 5
ALL = {name: (case.cell, case.reference.input_size) for name, case in (cases() | variants()).items()}
ALL |= {name: (layer, INPUT) for name, layer in examples().items()}
KEY = jax.random.key(0)


def trace(layer, size, time, batch_shape, *, gradient=False, key=None, loop=Deferred()):
    """Traces a run and returns the shapes and dtypes of the state and the outputs, without compiling anything."""
    shape = size if isinstance(size, tuple) else (size,)
    params = jax.eval_shape(lambda: layer.init(KEY, size))
    resets = None if isinstance(layer, jaxrnn.Sliced) else np.zeros((time, *batch_shape), bool)
    how = {"lengths": np.zeros(batch_shape, int), "resets": resets, "key": key, "loop": loop}

    def run(params, xs):
        return unroll(layer, params, xs, **how)

    def loss(params, xs):
        results = run(params, xs)
        numbers = [leaf for leaf in jax.tree.leaves(results) if jnp.issubdtype(leaf.dtype, jnp.inexact)]
        return sum(leaf.sum().real for leaf in numbers), results

    xs = jax.ShapeDtypeStruct((time, *batch_shape, *shape), jnp.float64)
    if not gradient:
        return jax.eval_shape(run, params, xs)
    return jax.eval_shape(jax.grad(loss, has_aux=True, allow_int=True), params, xs)[1]


def check_shapes(name, time, batch_shape, **how):
    layer, size = ALL[name]
    state, ys = trace(layer, size, time, batch_shape, **how)
    assert ys.shape[: 1 + len(batch_shape)] == (time, *batch_shape)
    params = jax.eval_shape(lambda: layer.init(KEY, size))
    expected = jax.eval_shape(lambda params: layer.initial_state(params, batch_shape), params)
    assert jax.tree.map(lambda leaf: leaf.shape, state) == jax.tree.map(lambda leaf: leaf.shape, expected)


@pytest.mark.parametrize("name", slow_but(ALL, [*cases(), *examples()]))
def test_shapes_of_an_empty_batch_and_of_no_steps(name):
    check_shapes(name, TIME, (0,))
    check_shapes(name, 0, (2,))


# No step, one and several, an empty batch, and no batch, each with and without a key.
SHAPES = {
    "evaluation": [(TIME, (0,)), (0, ()), (1, (2, 0)), (1, (1,)), (1, ())],
    "random": [(TIME, (2, 0)), (0, (0,)), (0, (2,)), (1, ())],
}
EVERY_SHAPE = [*SHAPES["evaluation"], *SHAPES["random"], (1, (0,))]
# A cell alone draws nothing, so that a key changes nothing.
WITH_KEYS = [name for name in ALL if name.split(",")[0] not in cell_cases() or name in REPRESENTATIVES]
NAMES_AND_KEYS = [(name, "evaluation") for name in ALL] + [(name, "random") for name in WITH_KEYS]


@pytest.mark.slow
@pytest.mark.parametrize(("name", "which"), NAMES_AND_KEYS)
def test_shapes_with_gradients(name, which):
    for time, batch_shape in EVERY_SHAPE if name in REPRESENTATIVES else SHAPES[which]:
        check_shapes(name, time, batch_shape, gradient=True, key=KEY if which == "random" else None)


# ---- loops -----------------------------------------------------------------------------------------------------------

LOOPS = {
    "scan": Scan(),
    "scan, unroll": Scan(unroll=2),
    "scan, checkpoints": Scan(checkpoint_every=2, unroll=3),
    "deferred": Deferred(),
    "deferred, unroll": Deferred(unroll=2),
    "deferred, blocks": Deferred(block=2),
    "deferred, blocks of one step": Deferred(block=1),
    "deferred, checkpoints": Deferred(checkpoint_every=2),
    "deferred, all": Deferred(checkpoint_every=3, block=2, unroll=2),
    "newton": Newton(),
    "newton, chunks": Newton(chunk=2),
    "newton, chunks of one step": Newton(chunk=1),
    "associative": AssociativeScan(),
    "associative, chunks": AssociativeScan(chunk=2),
    "associative, chunks of one step": AssociativeScan(chunk=1),
}
SIZES = [(TIME, (0,)), (0, (2,)), (1, (1,)), (TIME, (2, 0)), (4, (0,)), (0, ()), (0, (0,)), (1, (0,)), (2, (1, 1))]


def cell_of(loop):
    return MinGRU(1) if isinstance(loop, AssociativeScan) else LSTM(1)


@pytest.mark.parametrize("name", LOOPS)
def test_shapes_of_every_loop(name):
    for time, batch_shape in SIZES[:3]:
        state, ys = trace(cell_of(LOOPS[name]), 1, time, batch_shape, gradient=True, loop=LOOPS[name])
        assert ys.shape == (time, *batch_shape, 1)
        assert state.h.shape == (*batch_shape, 1)


def value_and_gradients(run, args):
    def loss(args):
        results = run(*args)
        return sum((leaf**3).sum() for leaf in jax.tree.leaves(results)), results

    return jax.jit(jax.value_and_grad(loss, has_aux=True))(args)


# Without steps or sequences, one direction is enough; both take turns.
LOOPS_AND_SIZES = [
    (name, size, reverse)
    for name in LOOPS
    for n, size in enumerate(SIZES)
    for reverse in ((False, True) if math.prod((size[0], *size[1])) else (n % 2 == 0,))
]
IN_DEFAULT_TIER = [("deferred, all", size, size[0] == TIME) for size in SIZES[:3]]


@pytest.mark.parametrize(("name", "size", "reverse"), slow_but(LOOPS_AND_SIZES, IN_DEFAULT_TIER), ids=str)
def test_every_loop_equals_calls_of_the_cell(name, size, reverse):
    """With one feature and one unit, and a sequence of length 0. The gradients of no steps are zero."""
    loop, (time, batch_shape) = LOOPS[name], size
    cell = cell_of(loop)
    args, how = run_of(cell, time, batch_shape, reverse)
    found = value_and_gradients(partial(unroll, cell, **how, loop=loop), args)
    assert_close(found, expected_of(cell, time, batch_shape, reverse))
    (_, (last, ys)), grads = found
    assert ys.shape == (time, *batch_shape, 1)
    if ys.size == 0:
        assert_close(last, args[2])
        assert not any(leaf.any() for leaf in jax.tree.leaves(grads[0]))


def run_of(cell, time, batch_shape, reverse):
    """Returns the arguments and the options of a run."""
    params, xs = draw_params(cell, input_size=1), draw(time, *batch_shape, 1)
    lengths = np.full(batch_shape, time)
    if batch_shape:
        lengths[..., :1] = 0
    resets = None if reverse else draw(time, *batch_shape) > 0.5
    args = params, xs, draw_state(cell, params, batch_shape)
    return args, {"lengths": lengths, "resets": resets, "reverse": reverse}


@functools.cache  # it is the same for every loop
def expected_of(cell, time, batch_shape, reverse):
    args, how = run_of(cell, time, batch_shape, reverse)
    return to_numpy(value_and_gradients(partial(step_by_step, cell, **how), args))


def step_by_step(cell, params, xs, state, *, lengths, resets, reverse):
    """`unroll` by calls of the cell, without a loop."""
    time, batch_shape = xs.shape[0], xs.shape[1:-1]
    initial = cell.initial_state(params, batch_shape)
    ys = [jnp.zeros((*batch_shape, 1))] * time
    for t in reversed(range(time)) if reverse else range(time):
        begins = np.zeros(batch_shape, bool) if resets is None else resets[t]
        before = choose(begins, initial, state)
        after, y = cell(params, before, xs[t])
        state, ys[t] = choose(t < lengths, (after, y), (state, jnp.zeros_like(y)))
    return state, jnp.stack(ys) if ys else jnp.zeros((0, *batch_shape, 1))


def choose(mask, new, old):
    return jax.tree.map(lambda a, b: jnp.where(np.asarray(mask)[..., None], a, b), new, old)


# ---- one unit and one feature ----------------------------------------------------------------------------------------


def smallest(name):
    """A cell of a class with all its sizes, which are its positional arguments, equal to 1, and its input size."""
    cell = cases()[name].cell
    sizes = [field.name for field in fields(cell) if field.init and not field.kw_only]
    return type(cell)(*[1] * len(sizes)), {"GRUD": 3, "CfC": 2, "PhasedLSTM": 2, "TimeAwareLSTM": 2}.get(name, 1)


def has_sizes_alone(cell):
    positional = [field for field in fields(cell) if field.init and not field.kw_only]
    return all(isinstance(getattr(cell, field.name), int) for field in positional)


REFUSED = ("ClockworkRNN", "Retention")  # several periods, and heads of pairs
WITH_SIZES = [name for name, case in cell_cases().items() if has_sizes_alone(case.cell) and name not in REFUSED]


@pytest.mark.parametrize("name", WITH_SIZES)
def test_shapes_of_one_unit_and_one_feature(name):
    cell, size = smallest(name)
    assert trace(cell, size, 1, (1,))[1].shape[:-1] == (1, 1)


@pytest.mark.slow
@pytest.mark.parametrize("name", WITH_SIZES)
def test_one_unit_and_one_feature(name):
    cell, size = smallest(name)
    params = cell.init(KEY, size)

    def run(params, xs):
        return unroll(cell, params, xs)[1]

    xs = draw(TIME, 1, size)
    ys = jax.jit(run)(params, xs)
    assert np.isfinite(ys).all()
    assert_close(ys[:, 0], jax.jit(run)(params, xs[:, 0]), rtol=1e-9)
    grads = jax.jit(jax.grad(lambda params: (run(params, xs) ** 2).sum().real, allow_int=True))(params)
    for leaf in jax.tree.leaves(grads):
        assert leaf.dtype == jax.dtypes.float0 or np.isfinite(leaf).all()


@pytest.mark.parametrize("name", REFUSED)
def test_too_few_units_are_refused(name):
    with pytest.raises(ValueError, match=f"^{name}'s "):
        smallest(name)


# ---- converters ------------------------------------------------------------------------------------------------------

ROUND_TRIPS = {
    "torch": lambda layer, params: convert.from_torch(convert.to_torch(layer, params)),
    "haiku": lambda layer, params: convert.from_haiku(convert.to_haiku(layer, params)),
    "linen": lambda layer, params: convert.from_linen(convert.to_linen(layer, params)),
    "nnx": lambda layer, params: convert.from_nnx(convert.to_nnx(layer, params)),
}


@pytest.mark.parametrize(
    ("name", "cell"),
    [(name, cell) for name in ("torch", "linen", "nnx") for cell in (LSTM(1), Elman(1))]
    + [("haiku", Elman(1, activation=jax.nn.relu))],
    ids=str,
)
def test_converters_of_one_unit_and_one_feature(name, cell):
    params = params_of(cell, input_size=1)
    assert_same(ROUND_TRIPS[name](cell, params), (cell, params))
