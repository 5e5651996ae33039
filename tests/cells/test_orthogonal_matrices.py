"""Cells whose recurrent matrix is orthogonal or unitary: ScoRNN, ExpRNN and URNN."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxrnn
from tests.support.comparisons import to_numpy
from tests.support.inputs import INPUT, draw, draw_params

pytestmark = pytest.mark.usefixtures("x64", "quick")


@pytest.mark.parametrize("cell", [jaxrnn.ScoRNN(5), jaxrnn.ScoRNN(6), jaxrnn.ExpRNN(6)], ids=repr)
def test_orthogonal_networks_begin_with_turns_of_pairs(cell):
    w = to_numpy(cell.recurrent_matrix(cell.init(jax.random.key(0), INPUT)))
    pairs = np.kron(np.eye(3), np.ones((2, 2)))[: len(w), : len(w)]
    np.testing.assert_allclose(w * (1 - pairs), 0, atol=1e-12)
    assert (np.abs(w - np.eye(len(w)))[0, :2] > 1e-3).all()


@pytest.mark.parametrize("cell", [jaxrnn.ScoRNN(5, negatives=2), jaxrnn.ExpRNN(5)], ids=repr)
def test_recurrent_matrices_stay_orthogonal(cell):
    w = to_numpy(cell.recurrent_matrix(draw_params(cell)))
    np.testing.assert_allclose(w @ w.T, np.eye(5), atol=1e-12)
    half = cell.recurrent_matrix(jax.tree.map(lambda leaf: leaf.astype(jnp.bfloat16), draw_params(cell)))
    assert half.dtype == jnp.bfloat16
    np.testing.assert_allclose(half.astype(float), w, atol=0.02)


@pytest.mark.parametrize("cell", [jaxrnn.ScoRNN(5, negatives=2), jaxrnn.ExpRNN(5), jaxrnn.URNN(5)], ids=repr)
def test_states_keep_their_length_without_input_and_bias(cell):
    params = draw_params(cell)
    params = params._replace(b=jnp.zeros(5))
    state = jax.tree.map(lambda leaf: jnp.asarray(draw(2, 5), leaf.dtype), cell.initial_state(params, (2,)))
    last, _ = jaxrnn.unroll(cell, params, jnp.zeros((50, 2, INPUT)), state)
    np.testing.assert_allclose(np.linalg.norm(last.h, axis=-1), np.linalg.norm(state.h, axis=-1), rtol=1e-12)
