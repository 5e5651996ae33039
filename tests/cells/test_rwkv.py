"""RWKV: its equations in NumPy and its own tests."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxrnn
from jaxrnn import RWKV, unroll
from tests.support.comparisons import to_numpy
from tests.support.inputs import INPUT, draw, draw_params
from tests.support.references import Case, Reference, parts, sigmoid

pytestmark = pytest.mark.usefixtures("x64", "quick")
TIME, SYMBOLS = 6, 5


def rwkv(hidden):
    """Peng et al. 2023, eqs. 11 to 16, and appendix D for the state."""

    def step(params, state, x):
        _, a, b, p, before = state
        r, k, v = np.split(before, 3)
        w_r, w_k, w_v = parts(params.w_x, 3)
        mu_r, mu_k, mu_v = params.mu
        r, k, v = r + w_r @ (mu_r * x), k + w_k @ (mu_k * x), v + w_v @ (mu_v * x)
        largest = np.maximum(p, params.u + k)
        over, under = np.exp(p - largest) * a, np.exp(p - largest) * b
        new = np.exp(params.u + k - largest)
        wkv = (over + new * v) / (under + new)
        largest = np.maximum(p - np.exp(params.decay), k)
        keep, new = np.exp(p - np.exp(params.decay) - largest), np.exp(k - largest)
        before = np.concatenate([w_r @ ((1 - mu_r) * x), w_k @ ((1 - mu_k) * x), w_v @ ((1 - mu_v) * x)])
        h = sigmoid(r) * wkv
        return (h, keep * a + new * v, keep * b + new, largest, before), params.w_o.T @ h

    nothing = np.finfo(float).min / 2
    return Reference(step, lambda params: (*np.zeros((3, hidden)), np.full(hidden, nothing), np.zeros(3 * hidden)))


CASE = Case(jaxrnn.RWKV(4), rwkv(4))


def test_rwkv_is_a_quotient_of_sums():
    """Peng et al. 2023, eqs. 11 to 16, without a state."""
    cell, xs = RWKV(4), draw(TIME, INPUT)
    params = to_numpy(draw_params(cell))
    before = np.concatenate([np.zeros((1, INPUT)), xs[:-1]])
    mixed = [
        (mu * xs + (1 - mu) * before) @ w for mu, w in zip(params.mu, np.split(params.w_x, 3, axis=1), strict=True)
    ]
    r, k, v = mixed
    ys = []
    for t in range(TIME):
        ages = np.arange(t - 1, -1, -1)[:, None]
        weights = np.concatenate([np.exp(-ages * np.exp(params.decay) + k[:t]), np.exp(params.u + k[t])[None]])
        wkv = (weights * v[: t + 1]).sum(0) / weights.sum(0)
        ys.append((sigmoid(r[t]) * wkv) @ params.w_o)
    np.testing.assert_allclose(unroll(cell, params, xs)[1], ys, rtol=1e-12)


@pytest.mark.parametrize("size", [-1e4, 1e4])
def test_rwkv_survives_exponents_of_any_size(size):
    """An average of equal values is that value for all keys, from the first step on."""
    cell = RWKV(2)
    params = jax.tree.map(lambda leaf: leaf.astype(np.float32), cell.init(jax.random.key(0), 2))
    w_x = jnp.zeros((2, 6)).at[0, 2:4].set(size).at[1, 4:].set(1.0)
    params = params._replace(mu=jnp.ones((3, 2)), w_x=w_x.astype(np.float32), w_o=jnp.eye(2, dtype=np.float32))
    xs = np.stack([draw(TIME), np.ones(TIME)], axis=-1).astype(np.float32)

    def run(params):
        ys = unroll(cell, params, xs, loop=jaxrnn.loops.Scan())[1]
        return ys.sum(), ys

    (_, ys), grads = jax.value_and_grad(run, has_aux=True)(params)
    np.testing.assert_allclose(ys, np.full((TIME, 2), 0.5), rtol=1e-6)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(grads))
