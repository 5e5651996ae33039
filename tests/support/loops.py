"""Comparing a loop with `Scan`, in value and gradient."""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

import jaxrnn
from jaxrnn.loops import Scan
from tests.support.comparisons import assert_close
from tests.support.inputs import INPUT, draw, draw_inputs, draw_params, draw_state

TIME, BATCH = 10, 3  # a length that neither 3 nor 4 divides

LENGTHS = [None, np.array([10, 0, 7])]
RESETS = [None, draw(TIME, BATCH) > 0.5]


@partial(jax.jit, static_argnums=(0, 1), static_argnames="reverse")
def value_and_gradients(cell, loop, args, key, lengths, resets, *, reverse):
    def loss(args):
        state, ys = jaxrnn.unroll(cell, *args, lengths=lengths, resets=resets, reverse=reverse, key=key, loop=loop)
        weights = jnp.cos(jnp.arange(ys.size)).reshape(ys.shape)
        return (weights * ys**2).sum() + sum((leaf**3).sum().real for leaf in jax.tree.leaves(state)), (state, ys)

    (_, results), grads = jax.value_and_grad(loss, has_aux=True, allow_int=True)(args)
    return results, jax.tree.map(lambda grad: None if grad.dtype == jax.dtypes.float0 else grad, grads)


def compare(cell, loop, *, key, lengths, resets, reverse, input_size=INPUT):
    params = draw_params(cell, input_size=input_size)
    args = params, draw_inputs(input_size, TIME, BATCH), draw_state(cell, params, (BATCH,))
    how = {"reverse": reverse}
    found = value_and_gradients(cell, loop, args, key, lengths, resets, **how)
    expected = value_and_gradients(cell, Scan(), args, key, lengths, resets, **how)
    assert_close(found, expected, rtol=1e-9)
