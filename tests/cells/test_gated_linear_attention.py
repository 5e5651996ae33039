"""GatedLinearAttention: its equations in NumPy and its own tests."""

import numpy as np

import jaxrnn
from tests.support.references import Case, Reference, heads_of, parts, sigmoid, zero_state


def gated_linear_attention(hidden, heads, tau):
    """Yang et al. 2024, eqs. 3 and 4."""
    d = hidden // heads

    def step(params, state, x):
        s, y = np.array(state[0]).reshape(heads, d, d), []
        q, k, v = (heads_of(w @ x, heads) for w in parts(params.w_x, 3))
        alpha = heads_of(sigmoid(params.w_alpha.T @ (params.w_rank.T @ x) + params.b_alpha) ** (1 / tau), heads)
        for n in range(heads):
            s[n] = np.diag(alpha[n]) @ s[n] + np.outer(k[n], v[n])
            y.append(s[n].T @ q[n])
        return (s.ravel(),), np.concatenate(y)

    return Reference(step, zero_state(heads * d * d), analytic=False)


CASE = Case(jaxrnn.GatedLinearAttention(4, num_heads=2, rank_size=2, temperature=4.0), gated_linear_attention(4, 2, 4))
