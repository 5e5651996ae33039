"""A traced step: what it computes once, saves and replays. The GRU is the example of the package's documentation."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxrnn
from jaxrnn._tracing import TracedStep

pytestmark = pytest.mark.usefixtures("x64", "quick")

HIDDEN, BATCH = 4, 2


def trace(cell, input_size=3):
    params = cell.init(jax.random.key(0), input_size)
    params = jax.tree.map(lambda w: w + 0.1 * jax.random.normal(jax.random.key(w.size), w.shape), params)
    state = cell.initial_state(params, (BATCH,))
    state = jax.tree.map(lambda s: s + jax.random.normal(jax.random.key(2), s.shape), state)
    z = cell.project(params, jax.random.normal(jax.random.key(3), (BATCH, input_size)))
    return TracedStep(cell.step, params, state, z), params, state, z


def count_once(cell, primitive):
    """Counts the equations of a primitive among those that parameters alone determine, and among those in the loop."""
    traced, params, state, z = trace(cell)
    once = str(jax.make_jaxpr(traced.weights)(params))
    in_loop = str(jax.make_jaxpr(lambda w, s, z: traced.run(w, s, z)[0])(traced.weights(params), state, z))
    return once.count(f"{primitive}["), in_loop.count(f"{primitive}[")


def test_the_gru_has_one_product_and_one_weight_that_is_added():
    traced, params, _, _ = trace(jaxrnn.GRU(HIDDEN))
    weights = traced.weights(params)
    (product,) = traced.products
    assert product.aval.shape == (BATCH, 3 * HIDDEN)
    np.testing.assert_array_equal(weights[traced.weight_of_product[0]], params.w_h)
    (other,) = traced.other_weights
    np.testing.assert_array_equal(weights[other].ravel(), params.b_n)


def test_the_gru_saves_what_nonlinear_operations_read():
    traced, params, state, z = trace(jaxrnn.GRU(HIDDEN))
    _, saved = traced.run(traced.weights(params), state, z)
    x_r, x_z, x_n = jnp.split(z, 3, axis=-1)
    h_r, h_z, h_n = jnp.split(state.h @ params.w_h, 3, axis=-1)
    expected = [x_r + h_r, x_z + h_z, x_n, h_n + params.b_n]
    order = [min(range(4), key=lambda n: float(jnp.abs(saved[n] - e).max())) for e in expected]
    assert sorted(order) == [0, 1, 2, 3]
    for n, e in zip(order, expected, strict=True):
        np.testing.assert_allclose(saved[n], e, rtol=1e-12)
    assert traced.z_kept == []


def test_the_lstm_saves_one_array_of_all_gates():
    traced, params, state, z = trace(jaxrnn.LSTM(HIDDEN))
    _, (saved,) = traced.run(traced.weights(params), state, z)
    np.testing.assert_allclose(saved, z + state.h @ params.w_h, rtol=1e-12)


CELLS = [
    jaxrnn.GRU(HIDDEN),
    jaxrnn.LSTM(HIDDEN),
    jaxrnn.ResetBeforeGRU(HIDDEN),
    jaxrnn.PeepholeLSTM(HIDDEN),
    jaxrnn.ProjectedLSTM(HIDDEN, 3),
    jaxrnn.MinGRU(HIDDEN),
    jaxrnn.HyperLSTM(HIDDEN, 2, 2),
]
over_cells = pytest.mark.parametrize("cell", CELLS, ids=lambda cell: type(cell).__name__)


@over_cells
def test_run_equals_the_step(cell):
    traced, params, state, z = trace(cell)
    after, _ = traced.run(traced.weights(params), state, z)
    for one, other in zip(jax.tree.leaves(after), jax.tree.leaves(cell.step(params, state, z)), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-12)


@over_cells
def test_replay_needs_no_value_of_a_product(cell):
    traced, params, state, z = trace(cell)
    weights = traced.weights(params)
    after, saved = traced.run(weights, state, z)
    needed = [
        leaf if n in traced.z_kept else jnp.full(leaf.shape, jnp.nan) for n, leaf in enumerate(jax.tree.leaves(z))
    ]
    again = traced.replay(
        weights, state, needed, saved, lambda product, a, w: jnp.full(product.aval.shape, jnp.nan, product.aval.dtype)
    )
    for one, other in zip(jax.tree.leaves(again), jax.tree.leaves(after), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-12)


@over_cells
def test_replay_has_the_derivative_of_the_step(cell):
    traced, params, state, z = trace(cell)
    weights = traced.weights(params)
    _, saved = traced.run(weights, state, z)

    def total(tree):
        return sum((leaf * jnp.cos(jnp.arange(leaf.size)).reshape(leaf.shape)).sum() for leaf in jax.tree.leaves(tree))

    def replayed(state):
        return total(traced.replay(weights, state, z, saved, lambda product, a, w: product(a, w)))

    expected = jax.grad(lambda state: total(cell.step(params, state, z)))(state)
    for one, other in zip(jax.tree.leaves(jax.grad(replayed)(state)), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-10, atol=1e-12)


def test_each_product_can_be_replaced():
    traced, params, state, z = trace(jaxrnn.ResetBeforeGRU(HIDDEN))
    seen = []

    def multiply(product, a, w):
        seen.append((a.shape, w.shape))
        return product(a, w)

    traced.run(traced.weights(params), state, z, multiply)
    assert seen == [((BATCH, HIDDEN), (HIDDEN, 2 * HIDDEN)), ((BATCH, HIDDEN), (HIDDEN, HIDDEN))]


def test_what_parameters_determine_is_computed_once():
    once, in_loop = count_once(jaxrnn.ScoRNN(HIDDEN), "triangular_solve")
    assert once > 0
    assert in_loop == 0


def test_a_broadcast_bias_stays_in_the_loop():
    def step(params, state, z):
        return state * jnp.broadcast_to(params, state.shape) + z

    traced = TracedStep(step, jnp.ones(3), jnp.ones((BATCH, 3)), jnp.ones((BATCH, 3)))
    (weight,) = traced.weights(jnp.ones(3))
    assert weight.shape in ((3,), (1, 3))


def test_effects_stay_in_the_loop():
    def step(params, state, z):
        jax.debug.print("{}", params.sum())
        return state + params + z

    traced = TracedStep(step, jnp.ones(3), jnp.ones(3), jnp.ones(3))
    assert "debug" not in str(jax.make_jaxpr(traced.weights)(jnp.ones(3)))
    run = jax.make_jaxpr(lambda w, s, z: traced.run(w, s, z)[0])
    assert "debug" in str(run(traced.weights(jnp.ones(3)), jnp.ones(3), jnp.ones(3)))
