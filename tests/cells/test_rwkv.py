"""RWKV: its equations in NumPy and its own tests."""

import numpy as np

import jaxrnn
from tests.support.references import Case, Reference, parts, sigmoid


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
