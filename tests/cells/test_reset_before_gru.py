"""ResetBeforeGRU: its equations in NumPy and its own tests."""

import jax.numpy as jnp
import numpy as np

import jaxrnn
from tests.support.references import Case, Reference, parts, sigmoid, zero_state


def reset_before_gru(hidden, phi=np.tanh, sigma=sigmoid):
    """Cho et al. 2014, version 3: the reset gate multiplies the state; update gate 1 writes (Chung et al. 2014)."""

    def step(params, state, x):
        (h,) = state
        w_r, w_z, w_a = parts(params.w_x, 3)
        r_r, r_z = parts(params.w_h, 2)
        b_r, b_z, b_a = parts(params.b, 3)
        reset = sigma(w_r @ x + r_r @ h + b_r)
        update = sigma(w_z @ x + r_z @ h + b_z)
        candidate = phi(w_a @ x + params.w_a.T @ (reset * h) + b_a)
        h = (1 - update) * h + update * candidate
        return (h,), h

    return Reference(step, zero_state(hidden))


CASE = Case(
    jaxrnn.ResetBeforeGRU(4),
    reset_before_gru(4),
    variants={
        "other activations": Case(
            jaxrnn.ResetBeforeGRU(4, activation=jnp.sin, gate_activation=jnp.cos), reset_before_gru(4, np.sin, np.cos)
        ),
    },
)
