"""S5: its equations in NumPy and its own tests."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.linalg import expm

import jaxrnn
from jaxrnn import S5, unroll
from tests.support.comparisons import to_numpy
from tests.support.inputs import INPUT, draw
from tests.support.references import Case, Reference, parts

pytestmark = pytest.mark.usefixtures("x64", "quick")
TIME, SYMBOLS = 6, 5


def s5(params, state, u):
    """Smith et al. 2023, eqs. 2, 3 and 6, with the conjugates of all that is kept."""
    (s,) = state
    eigenvalues = params.a_re + 1j * params.a_im
    b_re, b_im = parts(params.w_x, 2)
    c_re, c_im = (c.T for c in np.split(params.w_s, 2))
    discrete = np.exp(eigenvalues * np.exp(params.log_delta))
    s = discrete * s + (discrete - 1) / eigenvalues * ((b_re + 1j * b_im) @ u)
    both, c = np.concatenate([s, s.conj()]), np.concatenate([c_re + 1j * c_im, c_re - 1j * c_im], axis=1)
    y = c @ both
    assert np.abs(y.imag).max() < 1e-12
    return (s,), y.real + params.w_d.T @ u


CASE = Case(jaxrnn.S5(4, 2), Reference(s5, lambda params: (np.zeros(len(params.a_re), complex),), analytic=False))


def test_s5_begins_as_the_normal_part_of_hippo():
    """A real system of twice the size, held constant between the steps, by the exponential of its matrix."""
    n, delta = 4, 0.3
    cell = S5(n, 2)
    params = cell.init(jax.random.key(0), INPUT)._replace(log_delta=jnp.full(n, np.log(delta)))
    legs = np.array([[-np.sqrt((2 * i + 1) * (2 * j + 1)) if i > j else -(i + 1.0) * (i == j) for j in range(2 * n)]
                     for i in range(2 * n)])  # fmt: skip
    low_rank = np.sqrt(np.arange(2 * n) + 0.5)
    normal = legs + np.outer(low_rank, low_rank)
    eigenvalues, vectors = np.linalg.eig(normal)
    kept = np.argsort(eigenvalues.imag)[n:]  # one of each pair
    np.testing.assert_allclose(np.asarray(params.a_re) + 1j * np.asarray(params.a_im), eigenvalues[kept], rtol=1e-12)
    w_x, w_s = to_numpy((params.w_x, params.w_s))
    inputs = (w_x[:, :n] + 1j * w_x[:, n:]).T  # V* B, of which B = V V* B
    outputs = (w_s[:n] + 1j * w_s[n:]).T  # C V
    ours = np.asarray(jaxrnn.cells.s5.hippo_n(2 * n)[1])[:, n:]
    for k in range(n):  # each of our vectors is an eigenvector, up to its phase
        np.testing.assert_allclose(abs(np.vdot(vectors[:, kept[k]], ours[:, k])), 1, rtol=1e-12)
    b, c = 2 * (ours @ inputs).real, 2 * (outputs @ ours.conj().T).real
    a_bar, xs, state, ys = expm(delta * normal), draw(TIME, INPUT), np.zeros(2 * n), []
    b_bar = np.linalg.solve(normal, a_bar - np.eye(2 * n)) @ b
    for x in xs:
        state = a_bar @ state + b_bar @ x
        ys.append(c @ state + np.asarray(params.w_d).T @ x)
    np.testing.assert_allclose(unroll(cell, params, xs)[1], ys, rtol=1e-10, atol=1e-12)


@pytest.mark.slow
def test_s5_draws_its_steps_between_the_shortest_and_the_longest():
    params = S5(200, 2, shortest=0.01, longest=0.5).init(jax.random.key(0), INPUT)
    steps = np.exp(params.log_delta)
    assert 0.01 <= steps.min() < 0.02
    assert 0.4 < steps.max() <= 0.5
