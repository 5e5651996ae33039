"""GRUD: its equations in NumPy and its own tests."""

import numpy as np

import jaxrnn
from tests.support.references import Case, Reference, parts, sigmoid


def gru_d(hidden):
    """Che et al. 2018, eqs. of GRU-D; the time since the last observation as in the paper's definition of delta."""

    def step(params, state, x):
        h, last, age = state
        size = len(last)
        x, m, gap = x[:size], x[size : 2 * size], x[2 * size]
        w_r, w_z, w = parts(params.w_x, 3)
        v_r, v_z, v = parts(params.w_m, 3)
        u_r, u_z = parts(params.w_h, 2)
        b_r, b_z, b = parts(params.b, 3)
        delta = gap + age  # age is 0 for what the step before observed
        gamma_x = np.exp(-np.maximum(0, np.diag(params.w_dx) @ delta + params.b_dx))
        gamma_h = np.exp(-np.maximum(0, params.w_dh.T @ delta + params.b_dh))
        x_hat = m * x + (1 - m) * (gamma_x * last + (1 - gamma_x) * params.mean)
        h_hat = gamma_h * h
        r = sigmoid(w_r @ x_hat + u_r @ h_hat + v_r @ m + b_r)
        z = sigmoid(w_z @ x_hat + u_z @ h_hat + v_z @ m + b_z)
        candidate = np.tanh(w @ x_hat + params.w_a.T @ (r * h_hat) + v @ m + b)
        h = (1 - z) * h_hat + z * candidate
        return (h, m * x + (1 - m) * last, (1 - m) * delta), h

    return Reference(step, lambda params: (np.zeros(hidden), params.mean, np.zeros_like(params.mean)))


CASE = Case(jaxrnn.GRUD(4), gru_d(4))
