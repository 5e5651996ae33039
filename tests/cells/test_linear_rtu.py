"""LinearRTU: its equations in NumPy and its own tests."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxrnn
from jaxrnn import RTU, LinearRTU, unroll
from tests.support.inputs import INPUT, draw
from tests.support.references import Case, Reference, parts, relu

pytestmark = pytest.mark.usefixtures("x64", "quick")


def linear_rtu(f):
    """Elelimy et al. 2024, the linear unit with complex numbers."""

    def step(params, state, x):
        (c,) = state
        w_1, w_2 = parts(params.w_x, 2)
        modulus = np.exp(-np.exp(params.nu))
        c = modulus * np.exp(1j * np.exp(params.theta)) * c + np.sqrt(1 - modulus**2) * (w_1 @ x + 1j * (w_2 @ x))
        return (c,), f(np.concatenate([c.real, c.imag]))

    return Reference(step, lambda params: (np.zeros(len(params.nu), complex),), analytic=False)


CASE = Case(
    LinearRTU(4, largest=0.9),
    linear_rtu(relu),
    variants={"tanh": Case(LinearRTU(4, activation=jnp.tanh, largest=0.9), linear_rtu(np.tanh))},
)


def same(x):
    return x


def test_without_an_activation_it_is_the_nonlinear_unit():
    linear, pairs = LinearRTU(4, activation=same), RTU(4, activation=same)
    params, xs = linear.init(jax.random.key(0), INPUT), draw(6, 2, INPUT)
    last, ys = unroll(linear, params, xs)
    other, expected = unroll(pairs, jaxrnn.cells.RTUParams(*params), xs)
    np.testing.assert_allclose(ys, expected, rtol=1e-12, atol=1e-14)
    np.testing.assert_allclose(last.c, other.c1 + 1j * other.c2, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("kind", [LinearRTU, RTU, jaxrnn.LRU], ids=lambda kind: kind.__name__)
def test_eigenvalues_begin_in_the_ring(kind):
    sizes = (200, 2) if kind is jaxrnn.LRU else (200,)
    params = kind(*sizes, smallest=0.5, largest=0.9, largest_phase=2.0).init(jax.random.key(0), INPUT)
    moduli, phases = np.exp(-np.exp(params.nu)), np.exp(params.theta)
    assert 0.5 <= moduli.min() < 0.53
    assert 0.87 < moduli.max() <= 0.9
    assert 0 < phases.min() < 0.1
    assert 1.9 < phases.max() <= 2
    if kind is jaxrnn.LRU:
        np.testing.assert_allclose(np.exp(params.gamma), np.sqrt(1 - moduli**2), rtol=1e-12)
