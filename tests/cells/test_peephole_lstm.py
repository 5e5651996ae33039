"""PeepholeLSTM: its equations in NumPy and its own tests."""

import jax
import numpy as np
import pytest

import jaxrnn
from tests.support.comparisons import to_numpy
from tests.support.references import Case, Reference, parts, sigmoid, zero_state

pytestmark = pytest.mark.usefixtures("x64", "quick")


def peephole_lstm(hidden):
    """Gers et al. 2002, with the squashing functions of Graves 2013 (eqs. 7 to 11)."""

    def step(params, state, x):
        h, c = state
        w_i, w_f, w_g, w_o = parts(params.w_x, 4)
        r_i, r_f, r_g, r_o = parts(params.w_h, 4)
        b_i, b_f, b_g, b_o = parts(params.b, 4)
        p_i, p_f, p_o = (np.diag(row) for row in params.w_c)
        input_gate = sigmoid(w_i @ x + r_i @ h + p_i @ c + b_i)
        forget_gate = sigmoid(w_f @ x + r_f @ h + p_f @ c + b_f)
        candidate = np.tanh(w_g @ x + r_g @ h + b_g)
        c = forget_gate * c + input_gate * candidate
        output_gate = sigmoid(w_o @ x + r_o @ h + p_o @ c + b_o)  # sees the new memory
        h = output_gate * np.tanh(c)
        return (h, c), h

    return Reference(step, zero_state(hidden, hidden))


CASE = Case(jaxrnn.PeepholeLSTM(4), peephole_lstm(4))


def test_peephole_weights_differ_from_zero():
    w_c = to_numpy(jaxrnn.PeepholeLSTM(64).init(jax.random.key(0), 1).w_c)
    assert w_c.shape == (3, 64)
    assert 0.08 < w_c.std() < 0.12
