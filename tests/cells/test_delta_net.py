"""DeltaNet: its equations in NumPy and its own tests."""

import numpy as np

import jaxrnn
from tests.support.references import Case, Reference, heads_of, parts, sigmoid, silu, unit, zero_state


def delta_net(hidden, heads):
    """Schlag et al. 2021, eqs. 23 to 25, with the feature map of Yang et al. 2024, section 3.3."""
    d = hidden // heads

    def step(params, state, x):
        s = np.array(state[0]).reshape(heads, d, d)
        q, k, v = (heads_of(w @ x, heads) for w in parts(params.w_x, 3))
        beta, y = sigmoid(params.w_beta.T @ x), []
        for n in range(heads):
            key = unit(silu(k[n]))
            old = s[n] @ key
            new = beta[n] * v[n] + (1 - beta[n]) * old
            s[n] = s[n] - np.outer(old, key) + np.outer(new, key)
            y.append(s[n] @ unit(silu(q[n])))
        return (s.ravel(),), np.concatenate(y)

    return Reference(step, zero_state(heads * d * d), analytic=False)


CASE = Case(jaxrnn.DeltaNet(4, num_heads=2), delta_net(4, 2))
