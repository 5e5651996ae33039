"""EchoState: its equations in NumPy and its own tests."""

import numpy as np

import jaxrnn
from tests.support.references import Case, of_hidden


@of_hidden(4)
def echo_state(params, h, x):
    """Jaeger et al. 2007, a leaky reservoir with a bias as a constant input; the leak is 0.3."""
    return (1 - 0.3) * h + 0.3 * np.tanh(params.w_x.T @ x + params.w_h.T @ h + params.b)


CASE = Case(jaxrnn.EchoState(4, 0.3, connectivity=0.8), echo_state, frozen=("w_x", "w_h", "b"))
