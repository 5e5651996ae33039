"""LinearAttention: its equations in NumPy and its own tests."""

import numpy as np

import jaxrnn
from tests.support.references import Case, Reference, zero_state


def linear_attention(keys, values):
    """Katharopoulos et al. 2020, equations 16 to 20."""

    def phi(a):
        return np.where(a > 0, a + 1, np.exp(np.minimum(a, 0)))

    def step(params, state, x):
        s, n = np.array(state[0]).reshape(keys, values), np.array(state[1]).ravel()
        q, k, v = phi(params.w_q.T @ x), phi(params.w_k.T @ x), params.w_v.T @ x
        s, n = s + np.outer(k, v), n + k
        return (s.ravel(), n), (q @ s) / (q @ n + 1e-6)

    return Reference(step, zero_state(keys * values, keys), analytic=False)


CASE = Case(jaxrnn.LinearAttention(4, 2), linear_attention(4, 2))
