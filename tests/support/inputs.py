"""Random arrays, parameters and states, the same in every run."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

INPUT = 3  # features of one step, unless a reference has another input size


def draw(*shape, seed=0):
    return np.random.default_rng([seed, *shape]).standard_normal(shape)


def draw_inputs(input_size, *leading):
    return draw(*leading, *np.atleast_1d(input_size))


def draw_params(layer, seed=0, input_size=INPUT):
    """Initial parameters plus noise: no two of them are equal, so a test notices when two are swapped."""
    params = layer.init(jax.random.key(seed), input_size)
    rng = np.random.default_rng(seed)
    return jax.tree.map(lambda leaf: leaf + 0.3 * rng.standard_normal(leaf.shape), params)


def draw_state(layer, params, batch_shape, seed=0):
    rng = np.random.default_rng([seed, 1])
    state = layer.initial_state(params, batch_shape)
    return jax.tree.map(lambda leaf: jnp.asarray(rng.standard_normal(leaf.shape), leaf.dtype), state)


def draw_all(layer, time, batch, input_size=INPUT):
    """Parameters, the same as NumPy arrays, inputs and a state."""
    params = draw_params(layer, input_size=input_size)
    state = draw_state(layer, params, (batch,))
    return params, jax.tree.map(np.asarray, params), draw(time, batch, input_size), state
