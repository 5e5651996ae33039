"""Shared by the comparisons with other libraries, which compile with all optimizations, as users do."""

import jax
import numpy as np

from tests.support.inputs import draw, draw_params, draw_state

SIZES = [(7, 3, 5, 4), (6, 2, 65, 128)]  # time, batch, input, hidden


def weigh(state, ys):
    """A number in which every output and every entry of the last state has its own weight."""
    leaves = [ys, *state]
    return sum((leaf * np.cos(1 + np.arange(leaf.size)).reshape(leaf.shape)).sum() for leaf in leaves)


def prepare(cell, time, batch, input_size):
    params = draw_params(cell, input_size=input_size)
    params = jax.tree.map(lambda leaf: leaf / max(1, leaf.shape[0] / 8) ** 0.5, params)  # nothing saturates
    return params, draw(time, batch, input_size), draw_state(cell, params, (batch,))


def value_and_gradients(run, *args):
    def loss(*args):
        last, ys = run(*args)
        return weigh(last, ys), (tuple(last), ys)

    (_, results), grads = jax.value_and_grad(loss, argnums=(0, 1, 2), has_aux=True)(*args)
    return results, grads
