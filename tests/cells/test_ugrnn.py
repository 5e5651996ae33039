"""UGRNN: its equations in NumPy and its own tests."""

import jax
import numpy as np

import jaxrnn
from tests.support.references import Case, of_hidden, parts, relu, sigmoid


def ugrnn(phi=np.tanh):
    @of_hidden(4)
    def reference(params, h, x):
        """Collins et al. 2017, the UGRNN."""
        w_g, w_c = parts(params.w_x, 2)
        u_g, u_c = parts(params.w_h, 2)
        b_g, b_c = parts(params.b, 2)
        c = phi(u_c @ h + w_c @ x + b_c)
        g = sigmoid(u_g @ h + w_g @ x + b_g)
        return g * h + (1 - g) * c

    return reference


CASE = Case(
    jaxrnn.UGRNN(4),
    ugrnn(),
    variants={
        "relu": Case(jaxrnn.UGRNN(4, activation=jax.nn.relu), ugrnn(relu)),
    },
)
