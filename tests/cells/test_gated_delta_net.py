"""GatedDeltaNet: its equations in NumPy and its own tests."""

import numpy as np

import jaxrnn
from tests.support.references import Case, Reference, heads_of, parts, sigmoid, silu, softplus, unit, zero_state


def gated_delta_net(hidden, heads):
    """Yang et al. 2025, eq. 10, with the gate of Mamba2."""
    d = hidden // heads

    def step(params, state, x):
        s = np.array(state[0]).reshape(heads, d, d)
        q, k, v = (heads_of(silu(w @ x), heads) for w in parts(params.w_x, 3))
        alpha, beta = (w @ x for w in parts(params.w_gates, 2))
        alpha = np.exp(-np.exp(params.a) * softplus(alpha + params.b_alpha))
        beta, y = sigmoid(beta), []
        for n in range(heads):
            key = unit(k[n])
            s[n] = s[n] @ (alpha[n] * (np.eye(d) - beta[n] * np.outer(key, key))) + beta[n] * np.outer(v[n], key)
            y.append(s[n] @ unit(q[n]))
        return (s.ravel(),), np.concatenate(y)

    return Reference(step, zero_state(heads * d * d), analytic=False)


CASE = Case(jaxrnn.GatedDeltaNet(4, num_heads=2), gated_delta_net(4, 2))
