"""Activation, against NumPy, and functions in stacks."""

import copy
import pickle

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxrnn
from jaxrnn import GRU, Activation, Dense, Stack, unroll
from tests.support.comparisons import assert_close
from tests.support.inputs import INPUT, draw, draw_params

pytestmark = pytest.mark.usefixtures("x64", "quick")
TIME, BATCH = 5, 3

EXAMPLE = jaxrnn.Activation(jnp.tanh)


def unit(x):
    return x / jnp.linalg.norm(x, axis=-1, keepdims=True)


def test_activation():
    xs = draw(TIME, BATCH, INPUT)
    state, ys = unroll(Activation(jax.nn.relu), (), xs)
    assert state == ()
    np.testing.assert_array_equal(ys, np.maximum(xs, 0))


def test_a_function_in_a_stack_is_an_activation(tmp_path):
    stack = Stack(GRU(4), jax.nn.relu, Dense(6), jax.nn.glu, jnp.tanh)
    written_out = Stack(GRU(4), Activation(jax.nn.relu), Dense(6), Activation(jax.nn.glu), Activation(jnp.tanh))
    assert stack == written_out
    assert hash(stack) == hash(written_out)
    assert repr(Stack(jax.nn.relu, Dense(2))) == "Stack(Activation(function=relu), Dense(size=2))"
    for other in (pickle.loads(pickle.dumps(stack)), copy.deepcopy(stack)):
        assert other == stack
    params, xs = draw_params(stack), draw(TIME, BATCH, INPUT)
    jaxrnn.save(tmp_path / "model.safetensors", stack, params)
    loaded, loaded_params = jaxrnn.load(tmp_path / "model.safetensors")
    assert loaded == stack
    _, hidden = unroll(GRU(4), params[0], xs)
    first, gate = np.split(np.maximum(hidden, 0) @ params[2].w + params[2].b, 2, axis=-1)
    assert_close(unroll(loaded, loaded_params, xs)[1], np.tanh(first / (1 + np.exp(-gate))))


def test_functions_between_densely_connected_layers():
    layer = jaxrnn.DenselyConnected(Dense(4), jnp.tanh)
    params, xs = draw_params(layer), draw(TIME, INPUT)
    y = xs @ params[0].w + params[0].b
    assert_close(unroll(layer, params, xs)[1], np.concatenate([xs, y, np.tanh(xs), np.tanh(y)], axis=-1))


def test_padding_does_not_reach_the_gradient_of_a_norm():
    """Padded inputs are zeros, at which the derivative of a norm is NaN."""
    layer = Stack(unit, Dense(2))
    params, xs, lengths = draw_params(layer), draw(TIME, BATCH, INPUT), np.array([5, 0, 2])
    grad = jax.grad(lambda xs: (unroll(layer, params, xs, lengths=lengths)[1] ** 2).sum())(xs)
    valid = np.arange(TIME)[:, None] < lengths
    assert np.isfinite(grad).all()
    assert not grad[~valid].any()
    assert grad[valid].all()
