"""RWKV7: its equations in NumPy and its own tests."""

import numpy as np

import jaxrnn
from tests.support.references import Case, Reference, heads_of, sigmoid, unit


def rwkv7(hidden, heads, rank):
    """Peng et al. 2025, section 4.1, with the products of the previous input in the state."""
    d, ends = hidden // heads, np.cumsum([hidden, hidden, hidden, rank, rank])

    def step(params, state, x):
        s, _, before = state
        s = np.reshape(s, (heads, d, d))
        products = np.split(params.w_x, 3, axis=1) + np.split(params.w_rank, 3, axis=1)
        now = np.concatenate([w.T @ ((1 - mu) * x) for w, mu in zip(products, params.mu, strict=True)]) + before
        later = np.concatenate([w.T @ (mu * x) for w, mu in zip(products, params.mu, strict=True)])
        r, k, v, low_d, low_a, low_g = np.split(now, ends)
        w = np.exp(-np.exp(-0.5) * sigmoid(params.w_d.T @ np.tanh(low_d) + params.b_d))
        a = sigmoid(params.w_a.T @ low_a + params.b_a)
        g = params.w_g.T @ sigmoid(low_g)
        kappa = k * params.xi
        k = k * ((1 - params.alpha) + params.alpha * a)
        r, k, v, w, a, kappa, rho = (heads_of(part, heads) for part in (r, k, v, w, a, kappa, params.rho))
        new, p = [], []
        for n in range(heads):
            removal = unit(kappa[n])
            new.append(s[n] @ (np.diag(w[n]) - np.outer(removal, a[n] * removal)) + np.outer(v[n], k[n]))
            wkv = new[n] @ r[n]
            centered = wkv - wkv.mean()
            wkv = centered / np.sqrt((centered**2).mean() + 64e-5)
            gain, b = heads_of(params.gain, heads)[n], heads_of(params.b, heads)[n]
            p.append(gain * wkv + b + r[n] @ (rho[n] * k[n]) * v[n])
        return (np.ravel(new), now, later), params.w_o.T @ (g * np.concatenate(p))

    size = 3 * (hidden + rank)
    return Reference(step, lambda params: (np.zeros(hidden * d), np.zeros(size), np.zeros(size)))


CASE = Case(jaxrnn.RWKV7(6, num_heads=2, rank_size=2), rwkv7(6, 2, 2))
