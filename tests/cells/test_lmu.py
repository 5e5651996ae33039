"""LMU: its equations in NumPy and its own tests."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.linalg

import jaxrnn
from tests.support.references import Case, Reference, zero_state

pytestmark = pytest.mark.usefixtures("x64", "quick")


def lmu(hidden, memory, theta):
    """Voelker et al. 2019, eqs. 1, 2, 4 to 7; held constant over a step, as SciPy discretizes it."""
    a, b = np.zeros((memory, memory)), np.zeros((memory, 1))
    for i in range(memory):
        b[i] = (2 * i + 1) * (-1) ** i
        for j in range(memory):
            a[i, j] = (2 * i + 1) * (-1 if i < j else (-1) ** (i - j + 1))
    both = np.zeros((memory + 1, memory + 1))
    both[:memory] = np.hstack([a, b]) / theta
    both = scipy.linalg.expm(both)
    a, b = both[:memory, :memory], both[:memory, memory]

    def step(params, state, x):
        h, m = state
        e_x, w_x = params.w_x[:, 0], params.w_x[:, 1:].T
        e_h, w_h = params.w_h[:, 0], params.w_h[:, 1:].T
        m = a @ m + b * (e_x @ x + e_h @ h + params.e_m[:, 0] @ m)
        h = np.tanh(w_x @ x + w_h @ h + params.w_m.T @ m)
        return (h, m), h

    return Reference(step, zero_state(hidden, memory))


CASE = Case(jaxrnn.LMU(4, 5, 6.0), lmu(4, 5, 6.0))


@pytest.mark.parametrize("order", [6, 12])
def test_a_legendre_memory_holds_a_window_of_the_past(order):
    """The value half a window ago, by the shifted Legendre polynomials at 1/2 (Voelker et al. 2019, eq. 3)."""
    theta, time = 40.0, 200
    cell = jaxrnn.LMU(2, order, theta)
    params = jax.tree.map(jnp.zeros_like, cell.init(jax.random.key(0), 1))
    params = params._replace(w_x=params.w_x.at[0, 0].set(1.0))
    signal = np.sin(2 * np.pi * np.arange(time) / 80)
    half = np.array([np.polynomial.legendre.Legendre.basis(i)(0.0) for i in range(order)])
    seen = [jaxrnn.unroll(cell, params, signal[:t, None])[0].m @ half for t in (150, 180, 200)]
    np.testing.assert_allclose(seen, signal[[150 - 20, 180 - 20, 200 - 20]], atol=0.05)
