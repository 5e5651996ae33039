"""ResetAfterMGU: its equations in NumPy and its own tests."""

import jax.numpy as jnp
import numpy as np

import jaxrnn
from tests.support.references import Case, Reference, parts, sigmoid, zero_state


def reset_after_mgu(hidden, phi=np.tanh, sigma=sigmoid):
    """Zhou et al. 2016 as Flax writes it: the gate multiplies the recurrent product; gate 1 keeps."""

    def step(params, state, x):
        (h,) = state
        w_f, w_n = parts(params.w_x, 2)
        r_f, r_n = parts(params.w_h, 2)
        b_f, b_n = parts(params.b, 2)
        gate = sigma(w_f @ x + r_f @ h + b_f)
        new = phi(w_n @ x + b_n + gate * (r_n @ h + params.b_n))
        h = (1 - gate) * new + gate * h
        return (h,), h

    return Reference(step, zero_state(hidden))


CASE = Case(
    jaxrnn.ResetAfterMGU(4),
    reset_after_mgu(4),
    variants={
        "other activations": Case(
            jaxrnn.ResetAfterMGU(4, activation=jnp.sin, gate_activation=jnp.cos), reset_after_mgu(4, np.sin, np.cos)
        ),
    },
)
