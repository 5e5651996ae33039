"""LEM: its equations in NumPy and its own tests."""

import numpy as np

import jaxrnn
from tests.support.references import Case, of_state, parts


@of_state(4, 4)
def lem(params, y, z, x):
    """Rusch et al. 2022, eq. 3, with their sigma-hat; dt is 0.7."""
    v_1, v_2, v_z, v_y = parts(params.w_x, 4)
    w_1, w_2, w_z = parts(params.w_y, 3)
    b_1, b_2, b_z, b_y = parts(params.b, 4)
    dt_1 = 0.7 * (0.5 + 0.5 * np.tanh((w_1 @ y + v_1 @ x + b_1) / 2))
    dt_2 = 0.7 * (0.5 + 0.5 * np.tanh((w_2 @ y + v_2 @ x + b_2) / 2))
    z = (1 - dt_1) * z + dt_1 * np.tanh(w_z @ y + v_z @ x + b_z)
    y = (1 - dt_2) * y + dt_2 * np.tanh(params.w_z.T @ z + v_y @ x + b_y)  # of the new z
    return y, z


CASE = Case(jaxrnn.LEM(4, dt=0.7), lem)
