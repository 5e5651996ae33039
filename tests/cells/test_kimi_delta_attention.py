"""KimiDeltaAttention: its equations in NumPy and its own tests."""

import numpy as np

import jaxrnn
from tests.support.references import Case, Reference, heads_of, parts, sigmoid, silu, softplus, unit, zero_state


def kimi_delta_attention(hidden, heads):
    """Kimi Team 2025, section 3, with the decay of Yang et al. 2025 for each key."""
    d = hidden // heads

    def step(params, state, x):
        s = np.reshape(state[0], (heads, d, d))
        q, k, v = (heads_of(silu(w @ x), heads) for w in parts(params.w_x, 3))
        alpha = params.w_alpha.T @ (params.w_rank.T @ x) + params.b_alpha
        alpha, beta = heads_of(softplus(alpha), heads), sigmoid(params.w_beta.T @ x)
        new, y = [], []
        for n in range(heads):
            key = unit(k[n])
            decay = np.diag(np.exp(-np.exp(params.a[n]) * alpha[n]))
            erase = np.eye(d) - beta[n] * np.outer(key, key)
            new.append(erase @ decay @ s[n] + beta[n] * np.outer(key, v[n]))
            y.append(new[n].T @ unit(q[n]))
        return (np.ravel(new),), np.concatenate(y)

    return Reference(step, zero_state(heads * d * d))


CASE = Case(jaxrnn.KimiDeltaAttention(4, num_heads=2), kimi_delta_attention(4, 2))
