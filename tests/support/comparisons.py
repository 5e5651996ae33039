"""Comparing pytrees of arrays."""

from __future__ import annotations

import jax
import numpy as np

import jaxrnn


def flat(state):
    """A state as NumPy references have it: a tuple of arrays."""
    return tuple(jax.tree.leaves(state))


def to_numpy(tree):
    return jax.tree.map(np.asarray, tree)


def assert_close(one, other, rtol=1e-12):
    """Compares the leaves of two pytrees. The tolerance is relative to the largest entry of each array."""
    one, other = (jax.tree.leaves(to_numpy(tree)) for tree in (one, other))
    assert [a.shape for a in one] == [b.shape for b in other]
    for a, b in zip(one, other, strict=True):
        largest = np.abs(b).max(initial=0, where=~np.isnan(b))
        np.testing.assert_allclose(a, b, rtol=rtol, atol=rtol * largest)


def outputs_and_input_gradients(cell, params, xs, state):
    """The outputs and the last h and c of an LSTM, and the gradient of a function of both by the inputs."""

    def loss(xs):
        last, ys = jaxrnn.unroll(cell, params, xs, state)
        return (ys**3).sum() + (last.c**2).sum(), (ys, last.h, last.c)

    return jax.value_and_grad(loss, has_aux=True)(xs)
