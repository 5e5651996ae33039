"""S4D: its equations in NumPy and its own tests."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.linalg import expm

import jaxrnn
from jaxrnn import S4D, unroll
from jaxrnn.cells.s4d import bilinear, s4d_inv
from tests.support.comparisons import to_numpy
from tests.support.inputs import INPUT, draw, draw_params
from tests.support.references import Case, Reference

pytestmark = pytest.mark.usefixtures("x64", "quick")
TIME = 6


def s4d(discretize):
    """Gu et al. 2022, section 3, one feature after the other."""

    def step(params, state, u):
        n = params.a_re.shape[1]
        s, y = np.array(state[0]).reshape(len(u), n), np.empty(len(u))
        for j in range(len(u)):
            a = -np.exp(params.a_re[j]) + 1j * params.a_im[j]
            b, c = (w[j, :n] + 1j * w[j, n:] for w in (params.w_x, params.w_s))
            a_bar, b_bar = discretize(a, b, np.exp(params.log_delta[j]))
            s[j] = a_bar * s[j] + b_bar * u[j]
            y[j] = (c @ s[j] + c.conj() @ s[j].conj()).real + params.w_d[j] * u[j]
        return (s.ravel(),), y

    return Reference(step, lambda params: (np.zeros(params.a_re.size, complex),), analytic=False)


def held(a, b, delta):
    return np.exp(delta * a), (np.exp(delta * a) - 1) / a * b


def trapezoidal(a, b, delta):
    return (1 - delta / 2 * a) ** -1 * (1 + delta / 2 * a), (1 - delta / 2 * a) ** -1 * delta * b


CASE = Case(
    S4D(4),
    s4d(held),
    variants={"bilinear": Case(S4D(4, frequencies=s4d_inv, discretize=bilinear), s4d(trapezoidal))},
)


@pytest.mark.parametrize("discretize", [jnp.expm1, bilinear], ids=lambda function: function.__name__)
def test_it_is_a_real_system_of_twice_the_size_for_each_feature(discretize):
    """The system (A, B, C) of one feature in real and imaginary parts, discretized as a whole."""
    n, delta = 4, 0.3
    cell = S4D(n, discretize=discretize)
    params = to_numpy(draw_params(cell)._replace(log_delta=jnp.full(INPUT, np.log(delta))))
    xs = draw(TIME, INPUT)
    expected = np.empty((TIME, INPUT))
    for j in range(INPUT):
        a_re, a_im = np.diag(-np.exp(params.a_re[j])), np.diag(params.a_im[j])
        a = np.block([[a_re, -a_im], [a_im, a_re]])
        b, c = params.w_x[j], 2 * params.w_s[j] * np.repeat([1, -1], n)
        if discretize is jnp.expm1:
            a_bar = expm(delta * a)
            b_bar = np.linalg.solve(a, (a_bar - np.eye(2 * n)) @ b)
        else:
            left = np.eye(2 * n) - delta / 2 * a
            a_bar, b_bar = np.linalg.solve(left, np.eye(2 * n) + delta / 2 * a), np.linalg.solve(left, delta * b)
        s = np.zeros(2 * n)
        for t in range(TIME):
            s = a_bar @ s + b_bar * xs[t, j]
            expected[t, j] = c @ s + params.w_d[j] * xs[t, j]
    np.testing.assert_allclose(unroll(cell, params, xs)[1], expected, rtol=1e-10, atol=1e-12)


def test_initial_values():
    """The eigenvalues as the paper lists them, for N = 8, of which the state has one of each pair."""
    n = np.arange(4.0)
    np.testing.assert_allclose(S4D(4).frequencies(n), [np.pi * k for k in range(4)])
    np.testing.assert_allclose(s4d_inv(n), [8 / np.pi * (8 / (2 * k + 1) - 1) for k in range(4)])
    cell = S4D(4, frequencies=s4d_inv, shortest=0.01, longest=0.5)
    params = to_numpy(cell.init(jax.random.key(0), 200))
    np.testing.assert_allclose(-np.exp(params.a_re), -0.5)
    np.testing.assert_allclose(params.a_im, np.tile(s4d_inv(n), (200, 1)))
    np.testing.assert_array_equal(params.w_x, np.tile([1, 1, 1, 1, 0, 0, 0, 0], (200, 1)))
    steps = np.exp(params.log_delta)
    assert 0.01 <= steps.min() < 0.02
    assert 0.4 < steps.max() <= 0.5


def test_s4d_inv_approximates_hippo_legs():
    """The lowest of the imaginary parts, of a large N, which is what the formula was fitted to."""
    exact = np.sort(jaxrnn.cells.s5.hippo_n(256)[0].imag)[::-1][:4]
    np.testing.assert_allclose(s4d_inv(np.arange(128.0))[:4], exact, rtol=0.03)
