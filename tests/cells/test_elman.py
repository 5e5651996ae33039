"""Elman: its equations in NumPy and its own tests."""

import jax
import numpy as np

import jaxrnn
from tests.support.references import Case, Reference, relu, zero_state


def elman(hidden, phi=np.tanh):
    """Elman 1990, eq. of the hidden layer."""

    def step(params, state, x):
        (h,) = state
        h = phi(params.w_x.T @ x + params.w_h.T @ h + params.b)
        return (h,), h

    return Reference(step, zero_state(hidden))


CASE = Case(
    jaxrnn.Elman(4),
    elman(4),
    variants={
        "relu": Case(jaxrnn.Elman(4, jax.nn.relu), elman(4, relu)),
    },
)
