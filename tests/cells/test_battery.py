"""What every cell must satisfy, from the `CASE` of each file in tests/cells and tests/wrappers."""

import copy
import pickle

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxrnn
from jaxrnn.testing import check_cell
from tests.support import references
from tests.support.cases import LINEAR_LOOPS, LOOPS, cases, variants
from tests.support.comparisons import assert_close, flat, to_numpy
from tests.support.inputs import draw, draw_inputs, draw_params, draw_state
from tests.support.loops import BATCH as LOOP_BATCH
from tests.support.loops import TIME as LOOP_TIME
from tests.support.loops import compare
from tests.support.tiers import REPRESENTATIVES, slow_but

pytestmark = pytest.mark.usefixtures("x64", "quick")
TIME, BATCH = 5, 2
LENGTHS = np.array([5, 3])
RESETS = np.array([[0, 0], [0, 0], [0, 1], [1, 0], [0, 1]], bool)

CASES, VARIANTS = cases(), variants()
ALL = CASES | VARIANTS
ANALYTIC = [name for name, case in CASES.items() if case.reference.analytic and not case.frozen]
LINEAR = [name for name, case in ALL.items() if isinstance(case.cell, jaxrnn.LinearCell)]

READS_NO_SYMBOLS = [name for name, case in ALL.items() if not case.reads_symbols]

over_cells = pytest.mark.parametrize("name", CASES)


over_all = pytest.mark.parametrize("name", slow_but(ALL, REPRESENTATIVES))


def is_trained(leaf):
    return jnp.issubdtype(leaf.dtype, jnp.inexact)


def draw_like(shapes, seed):
    """Numbers for a pytree of shapes; real and imaginary ones for complex leaves."""
    rng = np.random.default_rng(seed)

    def draw_leaf(leaf):
        values = rng.standard_normal(leaf.shape)
        if jnp.issubdtype(leaf.dtype, jnp.complexfloating):
            values = values + 1j * rng.standard_normal(leaf.shape)
        return np.asarray(values).astype(leaf.dtype)

    return jax.tree.map(draw_leaf, shapes)


def draw_symbols(size):
    """Symbols without a batch, in a batch as large as the input, and in a larger one; the last one is out of range."""
    return [np.array(1), np.arange(size)[::-1], np.arange(size + 1)]


def one_hot_vectors(size):
    """The vectors that the symbols up to `size` represent. The last one is out of range, and so NaN."""
    return np.concatenate([np.eye(size), np.full((1, size), np.nan)])


class Comparison:
    """Runs a cell with drawn parameters in one compiled program, and compares the results with its reference.

    Compilation takes nearly all of the time, so there is one program for a cell.
    """

    def __init__(self, case, *, gradient=True):
        self.case, self.cell, self.reference = case, case.cell, case.reference
        size = self.reference.input_size
        shapes = jax.eval_shape(lambda: self.cell.init(jax.random.key(0), size))
        noise = jax.tree.map(lambda leaf: 0.3 * leaf, draw_like(shapes, 0))
        self.xs = draw_inputs(size, TIME, BATCH)
        self.state = draw_like(jax.eval_shape(lambda p: self.cell.initial_state(p, (BATCH,)), shapes), 1)
        last, ys = jax.eval_shape(lambda p: jaxrnn.unroll(self.cell, p, self.xs, self.state), shapes)
        self.weights = draw_like((flat(last), ys), 2)
        padded = self.xs.copy()
        padded[np.arange(TIME)[:, None] >= LENGTHS] = np.nan

        def program(key, noise, xs, state, padded):
            params = jax.tree.map(jnp.add, self.cell.init(key, size), noise)

            def loss(args):
                last, ys = jaxrnn.unroll(self.cell, *args)
                return self.combine(flat(last), ys), (flat(last), ys)

            args = params, xs, state
            results = {"params": params}
            if gradient:
                value_and_gradient = jax.value_and_grad(loss, has_aux=True, allow_int=True)
                (_, results["value"]), results["gradient"] = value_and_gradient(args)
            else:
                results["value"] = loss(args)[1]
            results["masked"] = jaxrnn.unroll(self.cell, params, padded, lengths=LENGTHS, resets=RESETS)
            if self.case.reads_symbols:
                of_vectors = self.cell.project(params, one_hot_vectors(size))
                results["one-hot"] = [jax.tree.map(lambda z, s=s: z[s], of_vectors) for s in draw_symbols(size)]
                results["symbols"] = [self.cell.project(params, jnp.asarray(s)) for s in draw_symbols(size)]
            return results

        key = jax.random.key(0, impl="unsafe_rbg")  # quick to compile
        self.results = to_numpy(jax.jit(program)(key, noise, self.xs, self.state, padded))
        self.params = self.results["params"]

    def combine(self, last, ys):
        """A real number to which every output and every array of the last state contributes."""
        of_last, of_ys = self.weights
        pairs = zip(of_last, last, strict=True)
        terms = [(np.reshape(weight, leaf.shape) * leaf).sum() for weight, leaf in pairs if is_trained(weight)]
        if not self.reference.analytic:
            terms = [term.real for term in terms]
        return sum(terms) + (of_ys * ys).sum()

    def check_values(self):
        expected = references.run(self.reference, self.params, self.xs, flat(self.state))
        assert_same(self.results["value"], expected)
        last, ys = self.results["masked"]  # from the initial state
        expected = references.run(self.reference, self.params, self.xs, lengths=LENGTHS, resets=RESETS)
        assert_same((flat(last), ys), expected)
        if self.case.reads_symbols:
            assert_close(self.results["symbols"], self.results["one-hot"])

    def check_gradient(self):
        """Compares the gradient of each array with the reference's derivative along a random direction."""
        leaves, tree = jax.tree.flatten(to_numpy((self.params, self.xs, self.state)))
        grads = self.results["gradient"]
        paths = [jax.tree_util.keystr(path) for path, _ in jax.tree_util.tree_leaves_with_path(grads)]
        names = [path.rsplit(".", 1)[-1] for path in paths]
        rtol = 1e-11 if self.reference.analytic else 1e-8
        for k, (grad, leaf) in enumerate(zip(jax.tree.leaves(grads), leaves, strict=True)):
            if not is_trained(leaf):
                continue
            assert grad.dtype == leaf.dtype
            if names[k] in self.case.frozen and paths[k].startswith("[0]"):
                assert not grad.any(), f"the gradient of the frozen parameter {names[k]} must be zero"
                continue

            def at(moved, k=k):
                params, xs, state = jax.tree.unflatten(tree, [*leaves[:k], moved, *leaves[k + 1 :]])
                return self.combine(*references.run(self.reference, params, xs, flat(state)))

            direction = draw(*leaf.shape, seed=k)
            for unit in (1, 1j) if np.iscomplexobj(leaf) else (1,):
                expected = references.derivative(at, leaf, unit * direction, analytic=self.reference.analytic)
                terms = (grad * unit * direction).real
                np.testing.assert_allclose(
                    terms.sum(), expected, rtol=0, atol=rtol * np.abs(terms).sum(), err_msg=f"of {paths[k]}"
                )


def assert_same(results, expected):
    (last, ys), (expected_last, expected_ys) = results, expected
    assert ys.dtype == np.float64
    np.testing.assert_allclose(ys, expected_ys, rtol=1e-12, atol=1e-14)
    for leaf, other in zip(last, expected_last, strict=True):
        leaf, other = (np.reshape(x, (BATCH, -1)) for x in (leaf, other))
        np.testing.assert_allclose(leaf, other, rtol=1e-12, atol=1e-14)


@over_cells
def test_value_and_gradient_equal_the_reference(name):
    comparison = Comparison(CASES[name])
    comparison.check_values()
    comparison.check_gradient()


@pytest.mark.parametrize("name", VARIANTS)
def test_value_of_a_variant_equals_the_reference(name):
    Comparison(VARIANTS[name], gradient=False).check_values()


@pytest.mark.slow
@pytest.mark.parametrize("name", VARIANTS)
def test_gradient_of_a_variant_equals_the_reference(name):
    Comparison(VARIANTS[name]).check_gradient()


@over_all
def test_one_call_of_the_cell_equals_the_reference(name):
    """Without a batch axis."""
    case = ALL[name]
    params, x = draw_params(case.cell, input_size=case.reference.input_size), draw_inputs(case.reference.input_size)
    state = draw_state(case.cell, params, ())
    last, y = case.cell(params, state, x)
    expected_last, expected_y = case.reference.step(to_numpy(params), to_numpy(flat(state)), x)
    np.testing.assert_allclose(y, expected_y, rtol=1e-12, atol=1e-14)
    for leaf, expected in zip(flat(last), expected_last, strict=True):
        np.testing.assert_allclose(np.ravel(leaf), np.ravel(expected), rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("name", READS_NO_SYMBOLS)
def test_symbols_are_refused_by_name(name):
    cell, size = ALL[name].cell, ALL[name].reference.input_size
    params = jax.eval_shape(lambda: cell.init(jax.random.key(0), size))
    *image_shape, channels = np.atleast_1d(size)
    for symbols in draw_symbols(channels):
        xs = np.zeros((TIME, *symbols.shape, *image_shape), int)
        with pytest.raises(TypeError, match=rf"^{type(cell).__name__}\(.*\) .*, so it needs numbers, not symbols: "):
            jax.eval_shape(lambda params, xs=xs: jaxrnn.unroll(cell, params, xs), params)


@pytest.mark.parametrize("name", slow_but(ANALYTIC, ["LSTM"]))
def test_gradient_equals_complex_differences_entry_by_entry(name):
    cell, reference = CASES[name].cell, CASES[name].reference
    params = draw_params(cell, input_size=reference.input_size)
    xs, state = draw_inputs(reference.input_size, TIME, BATCH), draw_state(cell, params, (BATCH,))
    leaves, tree = jax.tree.flatten((params, xs, state))
    shapes = jax.eval_shape(lambda: jaxrnn.unroll(cell, params, xs, state))
    of_last, of_ys = draw_like((flat(shapes[0]), shapes[1]), 2)
    trained = [k for k, leaf in enumerate(leaves) if is_trained(leaf)]

    def combine(last, ys):
        pairs = zip(of_last, last, strict=True)
        return (of_ys * ys).sum() + sum((np.reshape(w, s.shape) * s).sum() for w, s in pairs if is_trained(w))

    def of_trained(moved):
        now = list(leaves)
        for k, leaf in zip(trained, moved, strict=True):
            now[k] = leaf
        return jax.tree.unflatten(tree, now)

    def expected(moved):
        params, xs, state = of_trained(moved)
        return combine(*references.run(reference, params, xs, flat(state)))

    def loss(moved):
        params, xs, state = of_trained(moved)
        last, ys = jaxrnn.unroll(cell, params, xs, state)
        return combine(flat(last), ys)

    leaves_of_trained = [leaves[k] for k in trained]
    found = jax.jit(jax.grad(loss))(leaves_of_trained)
    leaves = to_numpy(leaves)
    assert_close(found, references.gradient(expected, to_numpy(leaves_of_trained)), rtol=1e-11)


@over_all
def test_check_cell(name):
    case = ALL[name]
    check_cell(case.cell, case.reference.input_size, rtol=1e-9, frozen=case.frozen)


# ---- loops -----------------------------------------------------------------------------------------------------------


def everything_at_once():
    return {
        "lengths": np.array([LOOP_TIME, 0, 4]),
        "resets": draw(LOOP_TIME, LOOP_BATCH) > 0.7,
        "reverse": True,
    }


# `Deferred` looks into a cell's step, so it is compared on every cell, in blocks, each of which runs like all steps at
# once. The other loops only call the step.
CELLS_AND_LOOPS = [
    (name, loop) for name in ALL for loop in (LOOPS if name in REPRESENTATIVES else ("deferred-blocks",))
]


@pytest.mark.parametrize(
    ("name", "loop"), slow_but(CELLS_AND_LOOPS, [(name, "deferred-blocks") for name in REPRESENTATIVES])
)
def test_every_loop_equals_scan(name, loop):
    """Runs without lengths, resets or reverse are tested in tests/loops, on one cell, with every loop."""
    case = ALL[name]
    key = jax.random.key(1)
    compare(case.cell, LOOPS[loop], key=key, input_size=case.reference.input_size, **everything_at_once())


@pytest.mark.parametrize("name", slow_but(LINEAR, REPRESENTATIVES))
def test_every_loop_of_linear_cells_equals_scan(name):
    case = ALL[name]
    for loop, reverse in zip(LINEAR_LOOPS.values(), (False, True), strict=True):
        how = everything_at_once() | {"reverse": reverse}
        compare(case.cell, loop, key=None, input_size=case.reference.input_size, **how)


def test_linear_cells_are_found():
    assert {"MinGRU", "LRU"} <= set(LINEAR)


# ---- values ----------------------------------------------------------------------------------------------------------


@over_cells
def test_a_cell_is_a_value(name):
    cell = CASES[name].cell
    for other in (pickle.loads(pickle.dumps(cell)), copy.copy(cell), copy.deepcopy(cell)):
        assert other == cell
        assert hash(other) == hash(cell)
        assert repr(other) == repr(cell)
    assert len({cell, *(case.cell for case in CASES.values())}) == len(CASES)
    assert repr(cell).startswith(name + "(")
    assert "object at" not in repr(cell)


@pytest.mark.parametrize("name", slow_but(CASES, REPRESENTATIVES))
def test_init_depends_on_the_key_alone(name):
    cell, size = CASES[name].cell, CASES[name].reference.input_size
    one, same, other = (cell.init(jax.random.key(seed), size) for seed in (0, 0, 1))
    jax.tree.map(np.testing.assert_array_equal, one, same)
    assert any((a != b).any() for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True))


@over_cells
@pytest.mark.parametrize("wide", [False, True], ids=["float32", "float64"])
def test_init_has_the_default_dtype(name, wide):
    cell, size = CASES[name].cell, CASES[name].reference.input_size

    def describe():
        params = cell.init(jax.random.key(0), size)
        return params, cell.initial_state(params, (2, 3))

    with jax.enable_x64(wide):
        params, state = jax.eval_shape(describe)
    expected = (np.float64, np.complex128) if wide else (np.float32, np.complex64)
    found = {leaf.dtype for leaf in jax.tree.leaves((params, state)) if is_trained(leaf)}
    assert np.dtype(expected[0]) in found
    assert found <= {np.dtype(dtype) for dtype in expected}
    assert all(leaf.shape[:2] == (2, 3) for leaf in jax.tree.leaves(state))
