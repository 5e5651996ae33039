"""RTU: its equations in NumPy and its own tests."""

import jax.numpy as jnp
import numpy as np

import jaxrnn
from tests.support.references import Case, Reference, parts, relu, zero_state


def rtu(f):
    """Elelimy et al. 2024, the nonlinear unit, one pair after the other."""

    def step(params, state, x):
        c, inputs = np.array(state), [w @ x for w in parts(params.w_x, 2)]
        new = np.empty(c.shape, np.result_type(c, *params, x))
        for j in range(c.shape[1]):
            r, angle = np.exp(-np.exp(params.nu[j])), np.exp(params.theta[j])
            rotation = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
            new[:, j] = f(r * rotation @ c[:, j] + np.sqrt(1 - r**2) * np.array([u[j] for u in inputs]))
        return tuple(new), np.concatenate(new)

    return Reference(step, zero_state(4, 4))


CASE = Case(
    jaxrnn.RTU(4, largest=0.9),
    rtu(relu),
    variants={"tanh": Case(jaxrnn.RTU(4, activation=jnp.tanh, largest=0.9), rtu(np.tanh))},
)
