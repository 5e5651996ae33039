"""Every cell against its NumPy reference, in value and gradient, and what holds for each of them as a value."""

import copy
import pickle

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import references
from tables import CELLS, INPUT, assert_close, draw, draw_params, draw_state, flat, to_numpy

import jaxrnn
from jaxrnn import LSTM, RecurrentDropout, Zoneout
from jaxrnn.testing import check_cell

pytestmark = pytest.mark.usefixtures("x64", "quick")
TIME, BATCH = 5, 2

over_cells = pytest.mark.parametrize("name", CELLS)


@over_cells
def test_value_equals_the_reference(name):
    cell, reference = CELLS[name]
    params = draw_params(cell)
    xs, state = draw(TIME, BATCH, INPUT), draw_state(cell, params, (BATCH,))
    last, ys = jaxrnn.unroll(cell, params, xs, state)
    expected_last, expected_ys = references.run(reference, to_numpy(params), xs, to_numpy(flat(state)))
    assert ys.dtype == np.float64
    np.testing.assert_allclose(ys, expected_ys, rtol=1e-12)
    for leaf, expected in zip(flat(last), expected_last, strict=True):
        np.testing.assert_allclose(leaf, expected, rtol=1e-12)


@over_cells
def test_one_call_of_the_cell_equals_the_reference(name):
    cell, reference = CELLS[name]
    params, x = draw_params(cell), draw(INPUT)
    state = draw_state(cell, params, ())
    last, y = cell(params, state, x)
    expected_last, expected_y = reference.step(to_numpy(params), to_numpy(flat(state)), x)
    np.testing.assert_allclose(y, expected_y, rtol=1e-12)
    for leaf, expected in zip(flat(last), expected_last, strict=True):
        np.testing.assert_allclose(leaf, expected, rtol=1e-12)


@over_cells
def test_gradient_equals_complex_differences_of_the_reference(name):
    cell, reference = CELLS[name]
    params = draw_params(cell)
    xs, state = draw(TIME, BATCH, INPUT), draw_state(cell, params, (BATCH,))
    weights = draw(TIME, BATCH, jax.eval_shape(lambda: jaxrnn.unroll(cell, params, xs)[1]).shape[-1])
    leaves, tree = jax.tree.flatten((params, xs, state))
    weights_of_state = [draw(*leaf.shape, seed=7) for leaf in jax.tree.leaves(state)]

    def combine(last, ys):
        return (weights * ys).sum() + sum((w * s).sum() for w, s in zip(weights_of_state, flat(last), strict=True))

    def expected(leaves):
        params, xs, state = jax.tree.unflatten(tree, leaves)
        return combine(*references.run(reference, params, xs, flat(state)))

    def loss(leaves):
        params, xs, state = jax.tree.unflatten(tree, leaves)
        return combine(*jaxrnn.unroll(cell, params, xs, state))

    assert_close(jax.grad(loss)(leaves), references.gradient(expected, to_numpy(leaves)), rtol=1e-11)


@over_cells
def test_check_cell(name):
    check_cell(CELLS[name].cell, rtol=1e-9)


def test_elman_takes_any_activation():
    reference = references.elman(4, lambda x: np.maximum(x, 0))
    cell = jaxrnn.Elman(4, jax.nn.relu)
    params, xs = draw_params(cell), draw(TIME, BATCH, INPUT)
    _, expected = references.run(reference, to_numpy(params), xs)
    np.testing.assert_allclose(jaxrnn.unroll(cell, params, xs)[1], expected, rtol=1e-12)
    check_cell(cell)


def test_cells_nest():
    check_cell(jaxrnn.LearnedInitialState(Zoneout(jaxrnn.Elman(5, jnp.sin), 0.3)), rtol=1e-9)


# ---- values ----------------------------------------------------------------------------------------------------------


@over_cells
def test_a_cell_is_a_value(name):
    cell = CELLS[name].cell
    for other in (pickle.loads(pickle.dumps(cell)), copy.copy(cell), copy.deepcopy(cell)):
        assert other == cell
        assert hash(other) == hash(cell)
    assert len({cell, *(case.cell for case in CELLS.values())}) == len(CELLS)
    assert repr(cell).startswith(name + "(")
    assert "object at" not in repr(cell)


def test_equal_cells_compile_once():
    traces = []

    @jax.tree_util.Partial(jax.jit, static_argnums=0)
    def run(cell, params, xs):
        traces.append(cell)
        return jaxrnn.unroll(cell, params, xs)

    params = LSTM(4).init(jax.random.key(0), INPUT)
    for _ in range(3):
        run(LSTM(4), params, draw(TIME, INPUT))
    assert len(traces) == 1


def test_repr_reads_as_the_call():
    cell = Zoneout(LSTM(4), 0.1)
    assert repr(cell) == "Zoneout(cell=LSTM(hidden_size=4, forget_bias=1.0), rate=0.1)"
    assert repr(jaxrnn.Elman(4, jax.nn.relu)) == "Elman(hidden_size=4, activation=relu)"
    assert repr(RecurrentDropout(LSTM(2), 0.5)) != repr(RecurrentDropout(LSTM(2), 0.25))


def test_cells_cannot_be_changed():
    with pytest.raises(AttributeError):
        LSTM(4).hidden_size = 5


# ---- initial values --------------------------------------------------------------------------------------------------


def is_orthogonal(block):
    """Whether the rows or the columns, whichever are fewer, are orthonormal."""
    small = block @ block.T if block.shape[0] <= block.shape[1] else block.T @ block
    return np.allclose(small, np.eye(len(small)), atol=1e-10)


@pytest.mark.parametrize(
    ("cell", "gates"),
    [
        (jaxrnn.Elman(6), 1),
        (LSTM(6), 4),
        (jaxrnn.GRU(6), 3),
        (jaxrnn.ResetBeforeGRU(6), 2),
        (jaxrnn.PeepholeLSTM(6), 4),
        (jaxrnn.ProjectedLSTM(6, 4), 4),
    ],
    ids=repr,
)
def test_recurrent_weights_are_orthogonal_gate_by_gate(cell, gates):
    params = to_numpy(cell.init(jax.random.key(3), INPUT))
    blocks = np.split(params.w_h, gates, axis=1)
    blocks += [block for name, block in params._asdict().items() if name in ("w_a", "w_p")]
    assert all(is_orthogonal(block) for block in blocks)
    same_shape = [b for b in blocks if b.shape == blocks[0].shape]
    assert len({b.tobytes() for b in same_shape}) == len(same_shape), "gates must be drawn independently"


@pytest.mark.parametrize(
    "name", [n for n, case in CELLS.items() if type(case.cell).__module__.startswith("jaxrnn.cells")]
)
def test_input_weights_have_the_glorot_bound_of_one_gate(name):
    kind = type(CELLS[name].cell)
    cell = kind(32, 32) if name == "ProjectedLSTM" else kind(32)
    w_x = to_numpy(cell.init(jax.random.key(4), 32)).w_x
    for gate in np.split(w_x, w_x.shape[1] // 32, axis=1):
        assert 0.98 * np.sqrt(6 / 64) < np.abs(gate).max() <= np.sqrt(6 / 64)


@pytest.mark.parametrize("cell", [LSTM(3, 1.5), jaxrnn.PeepholeLSTM(3, 1.5), jaxrnn.ProjectedLSTM(3, 2, 1.5)], ids=repr)
def test_forget_bias_is_the_initial_value_of_a_parameter(cell):
    b = cell.init(jax.random.key(0), INPUT).b
    np.testing.assert_array_equal(b, [0, 0, 0, 1.5, 1.5, 1.5, *[0] * 6])


def test_forget_bias_is_not_added_at_run_time():
    params, xs = draw_params(LSTM(4)), draw(TIME, INPUT)
    one = jaxrnn.unroll(LSTM(4, forget_bias=0.0), params, xs)
    other = jaxrnn.unroll(LSTM(4, forget_bias=9.0), params, xs)
    jax.tree.map(np.testing.assert_array_equal, one, other)


def test_keeping_biases_of_the_grus():
    np.testing.assert_array_equal(jaxrnn.GRU(2, 1.5).init(jax.random.key(0), 1).b, [0, 0, 1.5, 1.5, 0, 0])
    np.testing.assert_array_equal(jaxrnn.ResetBeforeGRU(2, 1.5).init(jax.random.key(0), 1).b, [0, 0, -1.5, -1.5, 0, 0])


def test_peephole_weights_differ_from_zero():
    w_c = to_numpy(jaxrnn.PeepholeLSTM(64).init(jax.random.key(0), 1).w_c)
    assert w_c.shape == (3, 64)
    assert 0.08 < w_c.std() < 0.12


@pytest.mark.parametrize("kind", [LSTM, jaxrnn.PeepholeLSTM], ids=lambda kind: kind.__name__)
def test_chrono_sets_forget_and_input_bias(kind):
    b = to_numpy(kind(128, jaxrnn.Chrono(100)).init(jax.random.key(0), 1).b)
    b_i, b_f, b_g, b_o = np.split(b, 4)
    spans = np.exp(b_f)
    assert spans.min() >= 1
    assert spans.max() <= 99
    assert 40 < spans.mean() < 60  # uniform on [1, 99]: 50
    np.testing.assert_array_equal(b_i, -b_f)
    assert not b_g.any()
    assert not b_o.any()


def test_chrono_sets_the_keeping_bias_of_the_grus():
    _, b_z, b_n = np.split(to_numpy(jaxrnn.GRU(128, jaxrnn.Chrono(100)).init(jax.random.key(0), 1).b), 3)
    assert b_z.min() >= 0
    assert np.log(90) < b_z.max() <= np.log(99)
    assert not b_n.any()
    _, b_z, _ = np.split(to_numpy(jaxrnn.ResetBeforeGRU(128, jaxrnn.Chrono(100)).init(jax.random.key(0), 1).b), 3)
    assert b_z.max() <= 0
    assert np.log(90) < -b_z.min() <= np.log(99)


def test_uniform_initializer():
    draws = to_numpy(jaxrnn.initializers.uniform(0.25)(jax.random.key(0), (1000,)))
    assert -0.25 <= draws.min() < -0.24
    assert 0.24 < draws.max() < 0.25


@over_cells
def test_init_depends_on_the_key_alone(name):
    cell = CELLS[name].cell
    one, same, other = (cell.init(jax.random.key(seed), INPUT) for seed in (0, 0, 1))
    jax.tree.map(np.testing.assert_array_equal, one, same)
    assert any((a != b).any() for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True))


@over_cells
@pytest.mark.parametrize("wide", [False, True])
def test_init_has_the_default_dtype(name, wide):
    cell = CELLS[name].cell
    with jax.enable_x64(wide):
        params = cell.init(jax.random.key(0), INPUT)
        leaves = jax.tree.leaves((params, cell.initial_state(params, (2, 3))))
    assert {leaf.dtype for leaf in leaves} == {np.dtype(np.float64 if wide else np.float32)}
    assert all(leaf.shape[:2] == (2, 3) for leaf in jax.tree.leaves(cell.initial_state(params, (2, 3))))
