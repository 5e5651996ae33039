"""UnICORNN: its equations in NumPy and its own tests."""

import numpy as np

import jaxrnn
from tests.support.references import Case, of_state


@of_state(4, 4)
def unicornn(params, y, z, x):
    """Rusch & Mishra 2021, eq. 4, with their sigma-hat; dt, alpha are 0.3, 0.7."""
    dt = 0.3 * (0.5 + 0.5 * np.tanh(params.c / 2))
    z = z - dt * (np.tanh(params.w_h * y + params.w_x.T @ x + params.b) + 0.7 * y)
    return y + dt * z, z


CASE = Case(jaxrnn.UnICORNN(4, dt=0.3, alpha=0.7), unicornn)
