"""Shared by the tests of conversions: weights, exact equality, and one step with its gradient."""

import jax
import jax.numpy as jnp
import numpy as np

import jaxrnn


def other_weights(tree, seed=0):
    """Random weights with the shapes and dtypes of a tree; none are equal, so a test notices when two are swapped."""
    rng = np.random.default_rng(seed)
    return jax.tree.map(lambda leaf: jnp.asarray(rng.standard_normal(leaf.shape), leaf.dtype), tree)


def params_of(layer, input_size=2):
    return other_weights(jax.eval_shape(lambda key: layer.init(key, input_size), jax.random.key(0)))


def assert_same(one, other):
    """Checks that two trees, or two layers with their parameters, are equal bit for bit."""
    if isinstance(one, tuple) and isinstance(one[0], jaxrnn.Layer):
        assert one[0] == other[0]
        one, other = one[1], other[1]
    assert jax.tree.structure(one) == jax.tree.structure(other)
    for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True):
        assert a.dtype == b.dtype
        np.testing.assert_array_equal(np.asarray(a), np.asarray(b))


def step_and_gradients(run, *args):
    """The new state of a step `(weights, state, x) -> state`, and gradients for weights, state and input."""

    def loss(*args):
        state = run(*args)
        return sum((leaf * jnp.cos(1 + jnp.arange(leaf.size)).reshape(leaf.shape)).sum() for leaf in state), state

    return jax.jit(jax.value_and_grad(loss, argnums=(0, 1, 2), has_aux=True))(*args)
