"""How many iterations `Newton` takes for a cell, before and after it has learned something."""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import optax
from jax import Array

import jaxrnn

FEATURES, DELAY = 8, 8  # of the task: output what was read DELAY steps before
BATCH, LENGTH = 16, 64  # of the sequences in training

optimizer = optax.chain(optax.clip_by_global_norm(1.0), optax.adam(5e-3))


@partial(jax.jit, static_argnames=("cell", "updates"))
def train(cell: Any, params: Any, updates: int) -> tuple[Any, Array]:
    """Trains a cell to repeat its input after a delay. Returns its parameters and the mean squared error at the end."""
    model = jaxrnn.Stack(cell, jaxrnn.Dense(FEATURES))

    def loss_fn(params: Any, xs: Array) -> Array:
        _, ys = jaxrnn.unroll(model, params, xs, loop=jaxrnn.loops.Deferred())
        return ((ys[DELAY:] - xs[:-DELAY]) ** 2).mean()

    def update(carry: Any, key: Array) -> tuple[Any, Array]:
        params, adam = carry
        loss, gradient = jax.value_and_grad(loss_fn)(params, jax.random.normal(key, (LENGTH, BATCH, FEATURES)))
        change, adam = optimizer.update(gradient, adam)
        return (optax.apply_updates(params, change), adam), loss

    head = model.init(jax.random.key(1), FEATURES)[1]
    params = (params, head)
    (params, _), losses = jax.lax.scan(
        update, (params, optimizer.init(params)), jax.random.split(jax.random.key(2), updates)
    )
    return params[0], losses[-1]


def count(cell: Any, params: Any, length: int, loop: jaxrnn.loops.Newton) -> float:
    """Returns the number of iterations for one sequence of random inputs."""
    xs = jax.random.normal(jax.random.key(3), (length, 1, FEATURES))
    (found,) = loop.iterations(cell, params, xs)
    return float(found.iterations.max())
