"""Cells that are linear in their state, again in NumPy."""

import numpy as np
from references import Case, Reference, parts, sigmoid, zero_state

import jaxrnn


def softplus(x):
    return np.log(1 + np.exp(x))


def min_gru(hidden):
    """Feng et al. 2024, section 3.1."""

    def step(params, state, x):
        (h,) = state
        w_z, w_h = parts(params.w_x, 2)
        b_z, b_h = parts(params.b, 2)
        z = sigmoid(w_z @ x + b_z)
        h = (1 - z) * h + z * (w_h @ x + b_h)
        return (h,), h

    return Reference(step, zero_state(hidden))


def min_lstm(hidden):
    """Feng et al. 2024, section 3.2."""

    def step(params, state, x):
        (h,) = state
        w_f, w_i, w_h = parts(params.w_x, 3)
        b_f, b_i, b_h = parts(params.b, 3)
        f, i = sigmoid(w_f @ x + b_f), sigmoid(w_i @ x + b_i)
        h = f / (f + i) * h + i / (f + i) * (w_h @ x + b_h)
        return (h,), h

    return Reference(step, zero_state(hidden))


def rg_lru(params, state, x):
    """De et al. 2024, section 2.4."""
    (h,) = state
    w_r, w_i = parts(params.w_x, 2)
    b_r, b_i = parts(params.b, 2)
    r, i = sigmoid(w_r @ x + b_r), sigmoid(w_i @ x + b_i)
    a = np.exp(-softplus(params.decay)) ** (8 * r)
    h = a * h + np.sqrt(1 - a**2) * (i * x)
    return (h,), h


def lru(params, state, u):
    """Orvieto et al. 2023, section 3, with complex matrices."""
    (s,) = state
    eigenvalues = np.exp(-np.exp(params.nu)) * np.exp(1j * np.exp(params.theta))
    b_re, b_im = parts(params.w_x, 2)
    c_re, c_im = (c.T for c in np.split(params.w_s, 2))
    s = eigenvalues * s + np.exp(params.gamma) * ((b_re + 1j * b_im) @ u)
    return (s,), ((c_re + 1j * c_im) @ s).real + params.w_d.T @ u


def selective_ssm(params, state, x):
    """Gu and Dao 2023, algorithm 2, one input after the other."""
    h, y = np.array(state[0]).reshape(params.a.shape), np.empty_like(x)
    delta = softplus(params.w_rank.T @ (params.w_delta.T @ x) + params.b_delta)
    b, c = params.w_b.T @ x, params.w_c.T @ x
    for n in range(len(x)):
        h[n] = np.exp(delta[n] * -np.exp(params.a[n])) * h[n] + delta[n] * b * x[n]
        y[n] = c @ h[n] + params.d[n] * x[n]
    return (h.ravel(),), y


def linear_attention(keys, values):
    """Katharopoulos et al. 2020, equations 16 to 20."""

    def phi(a):
        return np.where(a > 0, a + 1, np.exp(np.minimum(a, 0)))

    def step(params, state, x):
        s, n = np.array(state[0]).reshape(keys, values), np.array(state[1]).ravel()
        q, k, v = phi(params.w_q.T @ x), phi(params.w_k.T @ x), params.w_v.T @ x
        s, n = s + np.outer(k, v), n + k
        return (s.ravel(), n), (q @ s) / (q @ n + 1e-6)

    return Reference(step, zero_state(keys * values, keys))


CELLS = {
    "MinGRU": Case(jaxrnn.MinGRU(4), min_gru(4)),
    "MinLSTM": Case(jaxrnn.MinLSTM(4), min_lstm(4)),
    "RGLRU": Case(jaxrnn.RGLRU(), Reference(rg_lru, lambda params: (np.zeros(len(params.decay)),))),
    "LRU": Case(jaxrnn.LRU(4, 2), Reference(lru, lambda params: (np.zeros(len(params.nu), complex),))),
    "SelectiveSSM": Case(
        jaxrnn.SelectiveSSM(4, 2), Reference(selective_ssm, lambda params: (np.zeros(params.a.size),))
    ),
    "LinearAttention": Case(jaxrnn.LinearAttention(4, 2), linear_attention(4, 2)),
}
