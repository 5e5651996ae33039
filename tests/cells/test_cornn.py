"""CoRNN: its equations in NumPy and its own tests."""

import numpy as np

import jaxrnn
from tests.support.references import Case, of_state


@of_state(4, 4)
def cornn(params, y, z, x):
    """Rusch & Mishra 2021, eq. 3 with the damping of the step before; dt, gamma, epsilon are 0.3, 1.2, 0.7."""
    w_y, w_z = params.w_h[:4].T, params.w_h[4:].T
    new_z = z + 0.3 * np.tanh(w_y @ y + w_z @ z + params.w_x.T @ x + params.b) - 0.3 * 1.2 * y - 0.3 * 0.7 * z
    return y + 0.3 * new_z, new_z


CASE = Case(jaxrnn.CoRNN(4, dt=0.3, gamma=1.2, epsilon=0.7), cornn)
