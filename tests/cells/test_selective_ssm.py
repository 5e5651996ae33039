"""SelectiveSSM: its equations in NumPy and its own tests."""

import numpy as np

import jaxrnn
from tests.support.references import Case, Reference, softplus


def selective_ssm(params, state, x):
    """Gu and Dao 2023, algorithm 2, one input after the other."""
    h, y = np.array(state[0]).reshape(params.a.shape), np.empty_like(x)
    delta = softplus(params.w_rank.T @ (params.w_delta.T @ x) + params.b_delta)
    b, c = params.w_b.T @ x, params.w_c.T @ x
    for n in range(len(x)):
        h[n] = np.exp(delta[n] * -np.exp(params.a[n])) * h[n] + delta[n] * b * x[n]
        y[n] = c @ h[n] + params.d[n] * x[n]
    return (h.ravel(),), y


CASE = Case(
    jaxrnn.SelectiveSSM(4, rank_size=2),
    Reference(selective_ssm, lambda params: (np.zeros(params.a.size),), analytic=False),
)
