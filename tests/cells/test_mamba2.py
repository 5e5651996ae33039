"""Mamba2: its equations in NumPy and its own tests."""

import numpy as np

import jaxrnn
from tests.support.references import Case, Reference, heads_of, parts, silu, softplus, zero_state


def mamba2(hidden, size, heads, groups):
    """Dao and Gu 2024, section 7, with the discretization of the authors' code."""
    d = hidden // heads

    def step(params, state, u):
        h = np.array(state[0]).reshape(heads, d, size)
        x = heads_of(silu(params.w_x.T @ u), heads)
        b, c = (heads_of(silu(w @ u), groups) for w in parts(params.w_bc, 2))
        delta = softplus(params.w_delta.T @ u + params.b_delta)
        new, y = [], []
        for n in range(heads):
            group = n * groups // heads
            decay = np.exp(delta[n] * -np.exp(params.a[n]))
            new.append(decay * h[n] + delta[n] * np.outer(x[n], b[group]))
            y.append(new[n] @ c[group] + params.d[n] * x[n])
        return (np.ravel(new),), np.concatenate(y)

    return Reference(step, zero_state(hidden * size))


CASE = Case(
    jaxrnn.Mamba2(4, 3, num_heads=2),
    mamba2(4, 3, 2, 1),
    variants={"groups": Case(jaxrnn.Mamba2(8, 3, num_heads=4, num_groups=2), mamba2(8, 3, 4, 2))},
)
