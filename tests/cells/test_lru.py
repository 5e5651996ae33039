"""LRU: its equations in NumPy and its own tests."""

import numpy as np

import jaxrnn
from tests.support.references import Case, Reference, parts


def lru(params, state, u):
    """Orvieto et al. 2023, section 3, with complex matrices."""
    (s,) = state
    eigenvalues = np.exp(-np.exp(params.nu)) * np.exp(1j * np.exp(params.theta))
    b_re, b_im = parts(params.w_x, 2)
    c_re, c_im = (c.T for c in np.split(params.w_s, 2))
    s = eigenvalues * s + np.exp(params.gamma) * ((b_re + 1j * b_im) @ u)
    return (s,), ((c_re + 1j * c_im) @ s).real + params.w_d.T @ u


CASE = Case(jaxrnn.LRU(4, 2), Reference(lru, lambda params: (np.zeros(len(params.nu), complex),), analytic=False))
