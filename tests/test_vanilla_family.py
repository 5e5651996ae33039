"""The vanilla network's relatives: their arguments, their initial values, and what their papers promise."""

import re

import catalogue_vanilla
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import references
from tables import INPUT, assert_close, draw, draw_params, to_numpy

import jaxrnn
from jaxrnn.ops import mod_relu
from jaxrnn.testing import check_cell

pytestmark = pytest.mark.usefixtures("x64", "quick")


# ---- arguments -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: jaxrnn.ClockworkRNN(4, (2, 1)), "periods must be positive and increasing, but they are (2, 1)"),
        (lambda: jaxrnn.ClockworkRNN(4, (0, 1)), "periods must be positive and increasing, but they are (0, 1)"),
        (lambda: jaxrnn.ClockworkRNN(4, ()), "periods must be positive and increasing, but they are ()"),
        (lambda: jaxrnn.ClockworkRNN(4, (1, 2, 4)), "must be a multiple of the number of periods, 3, but it is 4"),
        (lambda: jaxrnn.DTRNN(4, 1), "DTRNN's depth must be at least 2, but it is 1: of depth 1 it is Elman"),
        (lambda: jaxrnn.DTSRNN(4, 1), "DTSRNN's depth must be at least 2, but it is 1"),
        (lambda: jaxrnn.DOTRNN(4, 2, 1), "DOTRNN's depth must be at least 2, but it is 1"),
        (lambda: jaxrnn.ScoRNN(4, 5), "ScoRNN's negatives must be from 0 to 4, but it is 5"),
        (lambda: jaxrnn.CfC(4, 4).init(jax.random.key(0), 1), "must be at least 2, one of them the time, but it is 1"),
    ],
)
def test_refuses(make, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        make()


# ---- initial values --------------------------------------------------------------------------------------------------


def test_irnn_is_a_rectified_network_that_begins_with_the_identity():
    """Le et al. 2015: without input a state stays as it is."""
    cell, key = jaxrnn.Elman(4, jax.nn.relu), jax.random.key(0)
    params = cell.init(key, INPUT)
    params = params._replace(w_h=jaxrnn.initializers.identity()(key, (4, 4)))
    state = jaxrnn.ElmanState(h=jnp.abs(draw(2, 4)))
    last, _ = jaxrnn.unroll(cell, params, jnp.zeros((9, 2, INPUT)), state)
    np.testing.assert_array_equal(last.h, state.h)
    np.testing.assert_array_equal(jaxrnn.initializers.identity(0.5)(key, (2, 2)), [[0.5, 0], [0, 0.5]])


@pytest.mark.parametrize("connectivity", [0.1, 1.0])
def test_a_reservoir_has_the_spectral_radius_and_the_connectivity_asked_for(connectivity):
    cell = jaxrnn.EchoState(100, spectral_radius=0.7, connectivity=connectivity, input_scale=0.2)
    params = to_numpy(cell.init(jax.random.key(0), INPUT))
    assert np.abs(np.linalg.eigvals(params.w_h)).max() == pytest.approx(0.7, rel=1e-4)
    assert (params.w_h != 0).mean() == pytest.approx(connectivity, abs=0.02)
    assert 0.15 < np.abs(params.w_x).max() <= 0.2


def test_a_reservoir_without_connections_is_finite():
    params = jaxrnn.EchoState(4, connectivity=0.0).init(jax.random.key(0), INPUT)
    np.testing.assert_array_equal(params.w_h, np.zeros((4, 4)))


@pytest.mark.parametrize("cell", [jaxrnn.ScoRNN(5), jaxrnn.ScoRNN(6), jaxrnn.ExpRNN(6)], ids=repr)
def test_orthogonal_networks_begin_with_turns_of_pairs(cell):
    w = to_numpy(cell.recurrent_matrix(cell.init(jax.random.key(0), INPUT)))
    pairs = np.kron(np.eye(3), np.ones((2, 2)))[: len(w), : len(w)]
    np.testing.assert_allclose(w * (1 - pairs), 0, atol=1e-12)
    assert (np.abs(w - np.eye(len(w)))[0, :2] > 1e-3).all()


# ---- what papers promise ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("cell", [jaxrnn.ScoRNN(5, 2), jaxrnn.ExpRNN(5)], ids=repr)
def test_recurrent_matrices_stay_orthogonal(cell):
    w = to_numpy(cell.recurrent_matrix(draw_params(cell)))
    np.testing.assert_allclose(w @ w.T, np.eye(5), atol=1e-12)
    half = cell.recurrent_matrix(jax.tree.map(lambda leaf: leaf.astype(jnp.bfloat16), draw_params(cell)))
    assert half.dtype == jnp.bfloat16
    np.testing.assert_allclose(half.astype(float), w, atol=0.02)


@pytest.mark.parametrize("cell", [jaxrnn.ScoRNN(5, 2), jaxrnn.ExpRNN(5), jaxrnn.URNN(5)], ids=repr)
def test_states_keep_their_length_without_input_and_bias(cell):
    params = draw_params(cell)
    params = params._replace(b=jnp.zeros(5))
    state = jax.tree.map(lambda leaf: jnp.asarray(draw(2, 5), leaf.dtype), cell.initial_state(params, (2,)))
    last, _ = jaxrnn.unroll(cell, params, jnp.zeros((50, 2, INPUT)), state)
    np.testing.assert_allclose(np.linalg.norm(last.h, axis=-1), np.linalg.norm(state.h, axis=-1), rtol=1e-12)


@pytest.mark.parametrize("dtype", [jnp.float64, jnp.complex128])
def test_mod_relu_has_finite_gradients_at_zero(dtype):
    grads = jax.grad(lambda x, b: jnp.abs(mod_relu(x, b) ** 2).sum(), (0, 1))(jnp.zeros(3, dtype), jnp.ones(3))
    assert all(np.isfinite(grad).all() for grad in grads)


def test_a_unitary_network_of_half_precision_parameters_keeps_its_dtype():
    cell = jaxrnn.URNN(4)
    params = jax.tree.map(lambda leaf: leaf.astype(jnp.bfloat16), draw_params(cell))
    state, ys = jaxrnn.unroll(cell, params, jnp.asarray(draw(5, 2, INPUT), jnp.bfloat16))
    assert state.h.dtype == jnp.complex64
    assert ys.dtype == jnp.bfloat16


def test_a_clock_is_of_each_sequence():
    """A sequence that begins later has its own count of steps."""
    cell = jaxrnn.ClockworkRNN(6, (1, 2, 3))
    params, xs = draw_params(cell), draw(8, 2, INPUT)
    resets = np.zeros((8, 2), bool)
    resets[3, 1] = True
    _, ys = jaxrnn.unroll(cell, params, xs, resets=resets)
    _, alone = jaxrnn.unroll(cell, params, xs[3:, 1])
    assert_close(ys[3:, 1], alone)
    assert_close(ys[:, 0], jaxrnn.unroll(cell, params, xs[:, 0])[1])


@pytest.mark.parametrize("order", [6, 12])
def test_a_legendre_memory_holds_a_window_of_the_past(order):
    """The value half a window ago, by the shifted Legendre polynomials at 1/2 (Voelker et al. 2019, eq. 3)."""
    theta, time = 40.0, 200
    cell = jaxrnn.LMU(2, order, theta)
    params = jax.tree.map(jnp.zeros_like, cell.init(jax.random.key(0), 1))
    params = params._replace(w_x=params.w_x.at[0, 0].set(1.0))
    signal = np.sin(2 * np.pi * np.arange(time) / 80)
    half = np.array([np.polynomial.legendre.Legendre.basis(i)(0.0) for i in range(order)])
    seen = [jaxrnn.unroll(cell, params, signal[:t, None])[0].m @ half for t in (150, 180, 200)]
    np.testing.assert_allclose(seen, signal[[150 - 20, 180 - 20, 200 - 20]], atol=0.05)


def test_fast_weights_are_the_decayed_sum_of_outer_products():
    cell = jaxrnn.FastWeights(4, 0.8, 0.3)
    params = draw_params(cell)
    state, hs = jaxrnn.unroll(cell, params, draw(6, INPUT))
    expected = sum(0.8 ** (4 - t) * 0.3 * np.outer(hs[t], hs[t]) for t in range(5))
    np.testing.assert_allclose(state.a, expected, rtol=1e-12)


@pytest.mark.parametrize("depth", [2, 4])
def test_deep_transitions_of_any_depth(depth):
    for cell, options in (
        (jaxrnn.DTRNN(4, depth), {}),
        (jaxrnn.DTSRNN(4, depth), {"shortcut": True}),
        (jaxrnn.DOTRNN(4, 2, depth), {"output": 2}),
    ):
        params, xs = draw_params(cell), draw(4, 2, INPUT)
        _, expected = references.run(catalogue_vanilla.deep_transition(depth, **options), to_numpy(params), xs)
        assert_close(jaxrnn.unroll(cell, params, xs)[1], expected)


# ---- frozen parameters -----------------------------------------------------------------------------------------------


def test_check_cell_asks_that_frozen_parameters_get_no_gradient():
    with pytest.raises(AssertionError, match=re.escape("the gradient of params.w_x must not be zero")):
        check_cell(jaxrnn.EchoState(8), frozen=("w_h", "b"))
    with pytest.raises(
        AssertionError, match=re.escape("the gradient of params.b must be zero: it is said to be frozen")
    ):
        check_cell(jaxrnn.Elman(4), frozen=("b",))
