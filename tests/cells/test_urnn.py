"""URNN: its equations in NumPy and its own tests."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxrnn
from tests.support.inputs import INPUT, draw, draw_params
from tests.support.references import Case, Reference, mod_relu

pytestmark = pytest.mark.usefixtures("x64", "quick")


def urnn(n, seed):
    """Arjovsky et al. 2016, eqs. 6 to 8, the factors as matrices."""
    order = np.arange(n)
    f = np.exp(-2j * np.pi * np.outer(order, order) / n) / np.sqrt(n)
    pi = np.eye(n)[np.random.RandomState(seed).permutation(n)]

    def step(params, state, x):
        (h,) = state
        d_1, d_2, d_3 = (np.diag(np.cos(d) + 1j * np.sin(d)) for d in params.d)
        v_1, v_2 = (r[:n] + 1j * r[n:] for r in params.r)
        r_1, r_2 = (np.eye(n) - 2 * np.outer(v, v.conj()) / np.vdot(v, v) for v in (v_1, v_2))
        w = d_3 @ r_2 @ np.linalg.inv(f) @ d_2 @ pi @ r_1 @ f @ d_1
        v = params.w_x[:, :n] + 1j * params.w_x[:, n:]
        h = mod_relu(w @ h + v.T @ x, params.b)
        return (h,), np.concatenate([h.real, h.imag])

    return Reference(step, lambda params: (np.zeros(n, complex),), analytic=False)


CASE = Case(jaxrnn.URNN(4, seed=1), urnn(4, 1))


def test_a_unitary_network_of_half_precision_parameters_keeps_its_dtype():
    cell = jaxrnn.URNN(4)
    params = jax.tree.map(lambda leaf: leaf.astype(jnp.bfloat16), draw_params(cell))
    state, ys = jaxrnn.unroll(cell, params, jnp.asarray(draw(5, 2, INPUT), jnp.bfloat16))
    assert state.h.dtype == jnp.complex64
    assert ys.dtype == jnp.bfloat16
