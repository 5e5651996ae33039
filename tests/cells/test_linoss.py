"""LinOSS: its equations in NumPy and its own tests."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrnn import LinOSS, unroll
from jaxrnn.loops import Newton, Scan
from tests.support.comparisons import assert_close
from tests.support.inputs import INPUT, draw, draw_params
from tests.support.references import Case, Reference, relu, sigmoid, zero_state

pytestmark = pytest.mark.usefixtures("x64", "quick")


def linoss(implicit):
    """Rusch & Rus 2024, the two discretizations as linear systems, one oscillator after the other."""

    def step(params, state, u):
        z, y = (np.array(leaf, np.result_type(*params, *state, u)) for leaf in state)
        for k in range(len(z)):
            a, dt, force = relu(params.a[k]), sigmoid(params.dt[k]), params.w_x[:, k] @ u
            # Rows: z_n + dt a y = z_{n-1} + dt force, with y at the end of the step or at its start; y_n - dt z_n = y.
            if implicit:
                left, right = [[1, dt * a], [-dt, 1]], [z[k] + dt * force, y[k]]
            else:
                left, right = [[1, 0], [-dt, 1]], [z[k] - dt * a * y[k] + dt * force, y[k]]
            z[k], y[k] = np.linalg.solve(np.array(left), np.array(right))
        return (z, y), params.w_y.T @ y + params.w_d.T @ u

    return Reference(step, zero_state(4, 4))


CASE = Case(
    LinOSS(4, 2),
    linoss(implicit=True),
    variants={"implicit-explicit": Case(LinOSS(4, 2, implicit=False), linoss(implicit=False))},
)


@pytest.mark.parametrize("implicit", [True, False])
def test_energy_decays_or_is_preserved(implicit):
    """Without an input: the implicit method damps, and the implicit-explicit one preserves a quadratic form."""
    cell = LinOSS(4, 2, implicit=implicit)
    params = cell.init(jax.random.key(0), INPUT)._replace(w_x=jnp.zeros((INPUT, 4)))
    a, dt = np.asarray(params.a), sigmoid(np.asarray(params.dt))
    z, y = np.full((2, 4), [[1.0], [-0.5]])
    first = type(cell.initial_state(params))(jnp.asarray(z), jnp.asarray(y))
    last, _ = unroll(cell, params, jnp.zeros((500, INPUT)), first)

    def energy(z, y):
        return z**2 + a * y**2 - (0 if implicit else dt * a * z * y)

    if implicit:  # the eigenvalues have the modulus (1 + dt**2 a) ** -0.5
        np.testing.assert_allclose(energy(*last), energy(z, y) * (1 + dt**2 * a) ** -500.0, rtol=1e-9)
    else:
        np.testing.assert_allclose(energy(*last), energy(z, y), rtol=1e-10)


def test_an_oscillator_without_a_force_to_return_moves_on():
    """Where A = 0 the matrix of a step cannot be made diagonal; the position grows linearly, with finite gradients."""
    cell = LinOSS(2, 2)
    params = draw_params(cell)._replace(a=jnp.array([0.0, -1.0]), w_x=jnp.zeros((INPUT, 2)))
    first = type(cell.initial_state(params))(z=jnp.array([1.0, 2.0]), y=jnp.zeros(2))

    def run(params):
        return unroll(cell, params, jnp.zeros((10, INPUT)), first)

    last, _ = run(params)
    np.testing.assert_allclose(last.z, [1, 2])
    np.testing.assert_allclose(last.y, 10 * sigmoid(np.asarray(params.dt)) * [1, 2], rtol=1e-12)
    grads = jax.grad(lambda params: run(params)[1].sum())(params)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(grads))


@pytest.mark.parametrize("implicit", [True, False])
def test_newton_runs_all_steps_at_once(implicit):
    cell = LinOSS(4, 2, implicit=implicit)
    params, xs = draw_params(cell), draw(100, 2, INPUT)
    (found,) = Newton().iterations(cell, params, xs)
    assert (found.iterations <= 2).all()
    assert_close(unroll(cell, params, xs, loop=Newton()), unroll(cell, params, xs, loop=Scan()), rtol=1e-9)
