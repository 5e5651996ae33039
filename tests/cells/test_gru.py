"""GRU: its equations in NumPy and its own tests."""

import jax.numpy as jnp
import numpy as np

import jaxrnn
from tests.support.references import Case, Reference, parts, sigmoid, zero_state


def gru(hidden, phi=np.tanh, sigma=sigmoid):
    """Cho et al. 2014, version 1: the reset gate multiplies the recurrent product; update gate 1 keeps."""

    def step(params, state, x):
        (h,) = state
        w_r, w_z, w_n = parts(params.w_x, 3)
        r_r, r_z, r_n = parts(params.w_h, 3)
        b_r, b_z, b_n = parts(params.b, 3)
        reset = sigma(w_r @ x + r_r @ h + b_r)
        update = sigma(w_z @ x + r_z @ h + b_z)
        new = phi(w_n @ x + b_n + reset * (r_n @ h + params.b_n))
        h = (1 - update) * new + update * h
        return (h,), h

    return Reference(step, zero_state(hidden))


CASE = Case(
    jaxrnn.GRU(4),
    gru(4),
    variants={
        "other activations": Case(jaxrnn.GRU(4, activation=jnp.sin, gate_activation=jnp.cos), gru(4, np.sin, np.cos)),
    },
)
