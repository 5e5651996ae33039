"""`Newton`: all steps at once, solved by Newton's method, give the same results as one after the other."""

from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxrnn
from jaxrnn.loops import DiagonalJacobian, Newton, Scan
from jaxrnn.loops.newton._blocks import full_block
from jaxrnn.loops.newton._dependencies import components, trace_step
from jaxrnn.loops.newton._jacobian import jacobian_of
from jaxrnn.loops.newton._solver import RealState
from tests.support import references
from tests.support.cases import NEWTON_LOOPS, cases
from tests.support.comparisons import assert_close, flat, to_numpy
from tests.support.inputs import INPUT, draw, draw_inputs, draw_params, draw_state
from tests.support.loops import BATCH, LENGTHS, RESETS, TIME, compare
from tests.support.tiers import slow_but

pytestmark = pytest.mark.usefixtures("x64", "quick")

DIAGONAL = Newton(jacobian=DiagonalJacobian())
REPRESENTATIVES = ("Elman", "LSTM", "GRU", "IndRNN", "ParaGRU", "ParaLSTM", "LRU", "MinGRU", "MLSTM")
CHOSEN = [*((name, "newton") for name in REPRESENTATIVES), ("LSTM", "newton-diagonal"), ("GRU", "newton-checkpoint")]


def everything_at_once(reverse=True):
    return {"key": jax.random.key(1), "lengths": LENGTHS[1], "resets": RESETS[1], "reverse": reverse}


# A cell's step does not know of chunks and of the kind of Jacobian, so a few cells are enough for these.
CELLS_AND_LOOPS = [
    (name, loop) for name in cases() for loop in NEWTON_LOOPS if loop == "newton" or name in REPRESENTATIVES
]


@pytest.mark.parametrize(("name", "loop"), slow_but(CELLS_AND_LOOPS, CHOSEN))
def test_equals_scan_for_every_cell(name, loop):
    case = cases()[name]
    compare(case.cell, NEWTON_LOOPS[loop], input_size=case.reference.input_size, **everything_at_once())


@pytest.mark.slow
@pytest.mark.parametrize("name", REPRESENTATIVES)
@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("resets", [0, 1])
@pytest.mark.parametrize("lengths", [0, 1])
def test_equals_scan_under_every_combination(name, lengths, resets, reverse):
    cell = cases()[name].cell
    for loop in NEWTON_LOOPS.values() if name in ("LSTM", "ParaLSTM", "LRU") else [Newton()]:
        compare(cell, loop, key=None, lengths=LENGTHS[lengths], resets=RESETS[resets], reverse=reverse)


@pytest.mark.parametrize("name", ["ParaGRU", "ParaLSTM"])
def test_equals_the_published_steps(name):
    case = cases()[name]
    params, xs, state = draw_params(case.cell), draw(40, 2, INPUT), draw_state(case.cell, draw_params(case.cell), (2,))
    last, ys = jaxrnn.unroll(case.cell, params, xs, state, loop=Newton())
    assert_close((flat(last), ys), references.run(case.reference, to_numpy(params), xs, flat(state)))


# ---- the structure of Jacobians --------------------------------------------------------------------------------------


def unchanged(a):
    return a


def check_structure(step, params, leaves, z):
    """Compares the Jacobian, computed block by block, with the one of all elements; returns the sizes of the blocks."""
    sizes = []
    for component in components(trace_step(step, params, leaves, z)):
        block = full_block(component)

        def of_block(own, block=block):
            replaced = dict(zip(block.leaves, own, strict=True))
            after = step(params, [replaced.get(n, x) for n, x in enumerate(leaves)], z)
            return [after[n] for n in block.leaves]

        @jax.jit
        def jacobians(own, block=block, of_block=of_block):
            dense = jax.jacfwd(lambda x: block.pack(of_block(block.unpack(x))))(block.pack(own))
            return jacobian_of(of_block, own, block, unchanged), dense

        found, dense = map(np.asarray, jacobians([leaves[n] for n in block.leaves]))
        dense = dense.reshape(-1, block.size, found.size // block.size**2, block.size)
        found = found.reshape(-1, block.size, block.size)
        expected = np.zeros(dense.shape)
        for n, a in enumerate(found):
            expected[n, :, n] = a
        assert_close(expected, dense)
        sizes.append(block.size if component.recurrent else 0)
    return sizes


SIZES = {  # of the blocks, in the order in which they are solved; 0: the states before a step are not read
    "Elman": [4],
    "LSTM": [8],
    "IndRNN": [1],
    "ParaGRU": [1],
    "ParaLSTM": [2],
    "LRU": [2],  # a complex number is two real ones
    "MLSTM": [1, 1, 1],  # the stabilizer first, which does not read the others
    "DeltaNet": [2],
    "SRU": [1, 0],
    "ClockworkRNN": [1, 6],
    "RWKV": [0, 1, 1, 1, 0],
}


@pytest.mark.parametrize("name", slow_but(cases(), ["LSTM", "ParaLSTM", "DeltaNet", "SRU"]))
def test_structure_of_the_jacobian_of_a_cell(name):
    case = cases()[name]
    cell, params = case.cell, draw_params(case.cell, input_size=case.reference.input_size)
    state, z = draw_state(cell, params, ()), cell.project(params, draw_inputs(case.reference.input_size))
    real = RealState(state)
    leaves = real.leaves_of(state)
    if name == "ClockworkRNN":  # has an integer, which has no derivative
        found = [full_block(c).size for c in components(trace_step(partial(real.step, cell.step), params, leaves, z))]
    else:
        found = check_structure(partial(real.step, cell.step), params, leaves, z)
    assert found == SIZES.get(name, found)


OPERATIONS = {  # functions of a state [2, 3], and the size of the block of its Jacobian
    "elementwise": (lambda s: jnp.tanh(s) * s + jnp.where(s > 0, s, 2.0), 1),
    "transposed and back": (lambda s: (s.T * 2).T, 1),
    "transposed": (lambda s: s.T.reshape(2, 3), 6),
    "flattened and back": (lambda s: (s.ravel() * jnp.arange(6.0)).reshape(2, 3), 6),
    "an axis more": (lambda s: (s[:, None, :] * jnp.ones((2, 4, 3))).sum(1), 1),
    "sum over one axis": (lambda s: s + s.sum(1, keepdims=True), 3),
    "maximum over another": (lambda s: s * s.max(0), 2),
    "softmax": (jax.nn.softmax, 3),
    "product from the right": (lambda s: s @ (jnp.arange(9.0).reshape(3, 3) + 1), 3),
    "product from the left": (lambda s: (jnp.arange(4.0).reshape(2, 2) + 1) @ s, 2),
    "product of batches": (lambda s: jnp.einsum("ij,ijk->ik", s, jnp.arange(18.0).reshape(2, 3, 3)), 3),
    "product with itself": (lambda s: s @ s.T @ s, 6),
    "reversed": (lambda s: s[:, ::-1], 3),
    "rolled": (lambda s: jnp.roll(s, 1, axis=0), 2),
    "shifted by a pad": (lambda s: jax.lax.pad(s, 0.0, ((0, 0, 0), (1, -1, 0))), 6),
    "cumulative": (lambda s: jnp.cumsum(s, axis=1), 3),
    "gathered": (lambda s: s[:, jnp.array([2, 0, 1])], 6),
    "sorted": (lambda s: jnp.sort(s, axis=1), 6),
    "split and joined": (lambda s: jnp.concatenate(jnp.split(s, 3, axis=1)[::-1], axis=1), 3),
    "without a derivative": (lambda s: jnp.sign(s.sum()) * s + jax.lax.stop_gradient(s.sum()), 1),
    "in a loop": (lambda s: jax.lax.fori_loop(0, 2, lambda _, s: jnp.sin(s), s), 6),
}


@pytest.mark.parametrize("name", OPERATIONS)
def test_structure_of_the_jacobian_of_an_operation(name):
    function, size = OPERATIONS[name]
    assert check_structure(
        lambda _, leaves, z: [function(leaves[0]) + z], (), [jnp.asarray(draw(2, 3))], jnp.ones(())
    ) == [size]


# ---- iterations ------------------------------------------------------------------------------------------------------


def iterations(loop, cell, params, xs, **how):
    (found,) = loop.iterations(cell, params, xs, **how)
    assert found.cell == cell
    assert found.iterations.shape == xs.shape[:2]
    return np.asarray(found.iterations)


def test_a_linear_cell_takes_one_iteration():
    for cell in (jaxrnn.MinGRU(4), jaxrnn.LRU(4, 3)):
        for loop in (Newton(), DIAGONAL):
            assert (iterations(loop, cell, draw_params(cell), draw(50, BATCH, INPUT)) == 1).all()


def test_a_chaotic_cell_takes_more_iterations_and_is_right():
    cell = jaxrnn.Elman(6)
    params = cell.init(jax.random.key(0), INPUT)
    calm, chaotic = draw(30, 2, INPUT), params._replace(w_h=5 * params.w_h)
    assert iterations(Newton(), cell, params, calm).max() < 10
    expected = jaxrnn.unroll(cell, chaotic, calm, loop=Scan())
    for loop in (Newton(), DIAGONAL):
        assert 10 < iterations(loop, cell, chaotic, calm).max() <= 30
        assert_close(jaxrnn.unroll(cell, chaotic, calm, loop=loop), expected, rtol=1e-9)


def test_states_that_overflow_are_those_of_scan():
    cell = jaxrnn.IndRNN(4)
    params = cell.init(jax.random.key(0), INPUT)._replace(w_h=jnp.array([1e3, 2.0, 1e5, 0.5]))
    xs = draw(200, 2, INPUT)
    expected = jaxrnn.unroll(cell, params, xs, loop=Scan())[1]
    found = jaxrnn.unroll(cell, params, xs, loop=Newton())[1]
    finite = np.isfinite(expected)
    assert not finite.all()
    np.testing.assert_allclose(found[finite], expected[finite], rtol=1e-9, atol=1e-9)
    np.testing.assert_array_equal(found[~finite], expected[~finite])
    assert iterations(Newton(), cell, params, xs).max() < 40


@pytest.mark.parametrize("loop", [Newton(), DIAGONAL], ids=["full", "diagonal"])
def test_nan_stays_in_its_sequence(loop):
    cell = jaxrnn.LSTM(4)
    params, xs = draw_params(cell), draw(TIME, BATCH, INPUT)
    broken = np.array(xs)
    broken[4, 1] = np.nan
    resets = np.zeros((TIME, BATCH), bool)
    resets[7, 1] = True
    for name, how in {"alone": {}, "resets": {"resets": resets}}.items():
        found, expected = (jaxrnn.unroll(cell, params, broken, loop=each, **how) for each in (loop, Scan()))
        assert_close(found, expected, rtol=1e-9)
        assert np.isnan(found[1][4:7, 1]).all(), name
        others = [0, 2]
        one, other = (iterations(loop, cell, params, each, **how) for each in (xs, broken))
        np.testing.assert_array_equal(one[:, others], other[:, others])
        assert other.max() <= TIME
        undisturbed = jaxrnn.unroll(cell, params, xs, loop=loop, **how)[1]
        np.testing.assert_array_equal(found[1][:, others], undisturbed[:, others])


def test_iterations_of_chunks_and_layers():
    layer = jaxrnn.Stack(jaxrnn.ParaGRU(3), jaxrnn.Dropout(0.5), jaxrnn.Bidirectional(jaxrnn.MinGRU(2)))
    params, xs = layer.init(jax.random.key(0), INPUT), draw(TIME, BATCH, INPUT)
    how = {"lengths": LENGTHS[1], "resets": RESETS[1], "key": jax.random.key(1)}
    found = Newton(chunk=4).iterations(layer, params, xs, **how)
    assert [str(each.cell)[:6] for each in found] == ["ParaGR", "MinGRU", "MinGRU"]
    of_gru = np.asarray(found[0].iterations)
    assert of_gru.shape == (TIME, BATCH)
    for part in (of_gru[:4], of_gru[4:8], of_gru[8:]):
        assert (part == part[0]).all()
        assert part.max() <= len(part)
    assert (of_gru[:, 1] == 0).all()  # a sequence of length 0
    after = jax.tree.map(jnp.ones_like, layer.initial_state(params, (BATCH,)))
    backwards = Newton().iterations(layer.layers[0], params[0], xs, after[0], reverse=True)
    assert (backwards[0].iterations > 0).all()


WRONG = {  # arguments that `unroll` refuses
    "layer": {"layer": jaxrnn.GRU},
    "params": {"params": jaxrnn.LSTM(4).init(jax.random.key(0), INPUT)},
    "params of another size": {"params": jaxrnn.GRU(5).init(jax.random.key(0), INPUT)},
    "xs": {"xs": np.zeros((TIME, BATCH, INPUT + 1))},
    "axes of xs": {"xs": np.zeros(INPUT)},
    "kind of xs": {"xs": np.zeros((TIME, BATCH, INPUT), complex)},
    "text": {"xs": np.full((TIME, BATCH, INPUT), "a")},
    "state": {"state": jnp.zeros((BATCH, 4))},
    "shape of state": {"state": jaxrnn.GRU(4).initial_state(draw_params(jaxrnn.GRU(4)), (BATCH + 1,))},
    "lengths": {"lengths": [0, TIME + 1, 2]},
    "shape of lengths": {"lengths": [0, 1]},
    "kind of lengths": {"lengths": [0.0, 1.0, 2.0]},
    "resets": {"resets": np.zeros((TIME, BATCH))},
    "shape of resets": {"resets": np.zeros((BATCH, TIME), bool)},
    "reverse": {"reverse": 1},
    "key": {"key": 3},
    "keys": {"key": jax.random.split(jax.random.key(0), BATCH + 1)},
}


@pytest.mark.parametrize("name", WRONG)
def test_iterations_checks_its_arguments_as_unroll_does(name):
    cell = jaxrnn.GRU(4)
    given = {"layer": cell, "params": draw_params(cell), "xs": draw(TIME, BATCH, INPUT)} | WRONG[name]
    with pytest.raises((TypeError, ValueError)) as expected:
        jaxrnn.unroll(**given, loop=Newton())
    with pytest.raises(expected.type) as found:
        Newton().iterations(**given)
    assert str(found.value) == str(expected.value)


def test_iterations_ignore_the_padding():
    cell = jaxrnn.Elman(4)
    params, xs = draw_params(cell), draw(TIME, BATCH, INPUT)
    padded = np.where(np.arange(TIME)[:, None, None] < np.array(LENGTHS[1])[:, None], xs, np.nan)
    one, other = (iterations(Newton(), cell, params, each, lengths=LENGTHS[1]) for each in (xs, padded))
    np.testing.assert_array_equal(one, other)


# ---- derivatives -----------------------------------------------------------------------------------------------------


def runs(cell, xs):
    """Returns functions of parameters and inputs, run by each kind of Newton's method and by `Scan`."""

    def run(loop, params, xs):
        return jaxrnn.unroll(cell, params, xs, lengths=LENGTHS[1], resets=RESETS[1], loop=loop)[1]

    return [partial(run, loop) for loop in (Newton(), DIAGONAL, Scan())]


@pytest.mark.parametrize("derivative", ["forward", "second"])
def test_derivatives(derivative):
    cell = jaxrnn.Elman(3)
    params, xs, direction = draw_params(cell), draw(TIME, BATCH, INPUT), draw(TIME, BATCH, INPUT, seed=1)

    @partial(jax.jit, static_argnums=0)
    def forward(run, params, xs):
        return jax.jvp(run, (params, xs), (params, direction))

    @partial(jax.jit, static_argnums=0)
    def second(run, params, xs):
        def of_gradient(xs):
            gradient = jax.grad(lambda params: (run(params, xs) ** 2).sum())(params)
            return sum((leaf**2).sum() for leaf in jax.tree.leaves(gradient))

        forward_over_reverse = jax.jvp(jax.grad(lambda params: (run(params, xs) ** 2).sum()), (params,), (params,))
        return jax.grad(of_gradient)(xs), forward_over_reverse

    *found, expected = ({"forward": forward, "second": second}[derivative](run, params, xs) for run in runs(cell, xs))
    for each in found:
        assert_close(each, expected, rtol=1e-9)


def test_gradient_by_parameters_that_only_some_leaves_of_the_state_depend_on():
    cell = jaxrnn.Jordan(3, 2)
    params, xs = draw_params(cell), draw(TIME, BATCH, INPUT)
    found, *_, expected = (
        jax.jit(jax.grad(lambda params, run=run: (run(params, xs) ** 2).sum()))(params) for run in runs(cell, xs)
    )
    assert_close(found, expected, rtol=1e-9)


def test_a_gradient_of_a_gradient_in_chunks_is_right_or_refused_and_a_forward_derivative_is_exact():
    cell, xs = jaxrnn.IndRNN(2), draw(6, INPUT)
    params = draw_params(cell)

    def gradient(params, loop):
        return jax.grad(lambda params: (jaxrnn.unroll(cell, params, xs, loop=loop)[1] ** 3).sum())(params)

    def second(params, loop):
        return jax.grad(lambda params: gradient(params, loop).w_h.sum())(params)

    found, message = None, ""
    try:
        found = second(params, Newton(chunk=3))
    except TypeError as error:
        message = str(error)
    if found is None:  # JAX 0.10
        assert message.startswith(
            "Newton has no gradient of a gradient inside a scan, or with chunk, in this version of"
        )
    else:
        assert_close(found, second(params, Scan()), rtol=1e-9)
    found, expected = (
        jax.jvp(partial(gradient, loop=loop), (params,), (params,))[1] for loop in (Newton(chunk=3), Scan())
    )
    assert_close(found, expected, rtol=1e-7)


def test_mapped_over_parameters():
    cell = jaxrnn.IndRNN(3)
    params, xs = draw_params(cell), draw(TIME, BATCH, INPUT)
    several = jax.tree.map(lambda w: jnp.stack([w, 0.5 * w]), params)

    def gradient(params, loop):
        return jax.grad(lambda params: (jaxrnn.unroll(cell, params, xs, loop=loop)[1] ** 2).sum())(params)

    found = jax.jit(jax.vmap(partial(gradient, loop=Newton())))(several)
    one = gradient(jax.tree.map(lambda w: w[1], several), Scan())
    assert_close(jax.tree.map(lambda w: w[1], found), one, rtol=1e-9)


def test_states_of_all_steps_of_a_stack():
    layer = jaxrnn.Stack(jaxrnn.Zoneout(jaxrnn.LSTM(3), rate=0.5), jaxrnn.Bidirectional(jaxrnn.ParaGRU(2)))
    params, xs = draw_params(layer), draw(TIME, BATCH, INPUT)
    found, expected = (
        jaxrnn.states_over_time(layer, params, xs, lengths=LENGTHS[1], key=jax.random.key(1), loop=loop)
        for loop in (Newton(), Scan())
    )
    assert_close(found, expected, rtol=1e-9)


def test_low_precision_is_computed_in_float32():
    cell = jaxrnn.LSTM(4)
    narrow = jax.tree.map(lambda x: jnp.asarray(x, jnp.bfloat16), (draw_params(cell), draw(100, BATCH, INPUT)))
    wide = jax.tree.map(lambda x: x.astype(jnp.float32), narrow)
    found, expected = jaxrnn.unroll(cell, *narrow, loop=Newton())[1], jaxrnn.unroll(cell, *wide, loop=Scan())[1]
    assert found.dtype == jnp.bfloat16
    np.testing.assert_allclose(found.astype(np.float32), expected, rtol=2.0**-7, atol=2.0**-9)


# ---- what it refuses -------------------------------------------------------------------------------------------------


class Counted(NamedTuple):
    h: Any
    count: Any


@dataclass(frozen=True)
class CountsUpcrossings(jaxrnn.Cell):
    """A cell whose integer and whose number depend on each other."""

    def init(self, key, input_size):
        return jnp.ones(())

    def initial_state(self, params, batch_shape=(), dtype=None):
        return Counted(jnp.zeros(batch_shape), jnp.zeros(batch_shape, jnp.int32))

    def project(self, params, x, key=None):
        return params * x[..., 0]

    def step(self, params, state, z):
        h = jnp.tanh(z + 0.1 * state.count.astype(z.dtype))
        return Counted(h, state.count + (state.h > 0).astype(jnp.int32))

    def readout(self, params, state, z):
        return state.h[..., None]


def test_errors():
    cell, xs = jaxrnn.GRU(4), draw(TIME, INPUT)
    with pytest.raises(TypeError, match=r"in CountsUpcrossings\(\) integers and numbers .* loop=jaxrnn\.loops\.Def"):
        jaxrnn.unroll(CountsUpcrossings(), jnp.ones(()), xs, loop=Newton())
    with pytest.raises(ValueError, match="Newton's chunk must be a positive integer, but it is 0"):
        Newton(chunk=0)
    with pytest.raises(ValueError, match="Newton's tolerance must be a finite number above 0, but it is 0"):
        Newton(tolerance=0.0)
    with pytest.raises(ValueError, match=r"tolerance must be at least 2.2e-16, the rounding of .* but it is 1e-17"):
        jaxrnn.unroll(cell, draw_params(cell), xs, loop=Newton(tolerance=1e-17))
    with pytest.raises(TypeError, match=r"jacobian must be jaxrnn.loops.FullJacobian\(\) or .* but it is 'diagonal'"):
        Newton(jacobian="diagonal")


def test_a_length_that_is_symbolic_is_refused():
    cell = jaxrnn.GRU(4)
    (time,) = jax.export.symbolic_shape("time")
    params = draw_params(cell)
    xs = jax.ShapeDtypeStruct((time, 2, INPUT), float)
    with pytest.raises(TypeError, match=r"Newton needs a length that is known, .* loop=jaxrnn\.loops\.Deferred"):
        jax.export.export(jax.jit(lambda xs: jaxrnn.unroll(cell, params, xs, loop=Newton())))(xs)
