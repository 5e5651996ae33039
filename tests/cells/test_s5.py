"""S5: its equations in NumPy and its own tests."""

import numpy as np

import jaxrnn
from tests.support.references import Case, Reference, parts


def s5(params, state, u):
    """Smith et al. 2023, eqs. 2, 3 and 6, with the conjugates of all that is kept."""
    (s,) = state
    eigenvalues = params.a_re + 1j * params.a_im
    b_re, b_im = parts(params.w_x, 2)
    c_re, c_im = (c.T for c in np.split(params.w_s, 2))
    discrete = np.exp(eigenvalues * np.exp(params.log_delta))
    s = discrete * s + (discrete - 1) / eigenvalues * ((b_re + 1j * b_im) @ u)
    both, c = np.concatenate([s, s.conj()]), np.concatenate([c_re + 1j * c_im, c_re - 1j * c_im], axis=1)
    y = c @ both
    assert np.abs(y.imag).max() < 1e-12
    return (s,), y.real + params.w_d.T @ u


CASE = Case(jaxrnn.S5(4, 2), Reference(s5, lambda params: (np.zeros(len(params.a_re), complex),)))
