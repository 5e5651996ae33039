"""SRU: its equations in NumPy and its own tests."""

import numpy as np

import jaxrnn
from tests.support.references import Case, Reference, parts, sigmoid, zero_state


def sru(hidden, highway_bias):
    """Lei et al. 2018, eqs. 1 to 4 and section 3.2."""

    def step(params, state, x):
        _, c = state
        w, w_f, w_r, *w_highway = parts(params.w_x, params.w_x.shape[-1] // hidden)
        v_f, v_r = params.w_c
        b_f, b_r = parts(params.b, 2)
        f = sigmoid(w_f @ x + v_f * c + b_f)
        r = sigmoid(w_r @ x + v_r * c + b_r)
        c = f * c + (1 - f) * (w @ x)
        carried = w_highway[0] @ x if w_highway else x
        h = r * c + (1 - r) * carried * np.sqrt(1 + np.exp(highway_bias) * 2)
        return (h, c), h

    return Reference(step, zero_state(hidden, hidden))


CASE = Case(
    jaxrnn.SRU(4, highway_bias=-1.0),
    sru(4, -1),
    variants={
        "highway of the input size": Case(jaxrnn.SRU(4, highway_bias=0.5), sru(4, 0.5)._replace(input_size=4)),
        "projected highway": Case(jaxrnn.SRU(4, highway_bias=0.5), sru(4, 0.5)),
    },
)
