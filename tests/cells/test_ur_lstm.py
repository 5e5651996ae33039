"""URLSTM: its equations in NumPy and its own tests."""

import jax
import numpy as np
import pytest

import jaxrnn
from tests.support.comparisons import to_numpy
from tests.support.inputs import INPUT
from tests.support.references import Case, Reference, parts, sigmoid, zero_state

pytestmark = pytest.mark.usefixtures("x64", "quick")


def ur_lstm(hidden):
    """Gu et al. 2020, in the simplified form of the effective gate: 2 r f + (1 - 2 r) f^2."""

    def step(params, state, x):
        h, c = state
        w_f, w_r, w_u, w_o = parts(params.w_x, 4)
        r_f, r_r, r_u, r_o = parts(params.w_h, 4)
        b_u, b_o = parts(params.b, 2)
        forget_gate = sigmoid(w_f @ x + r_f @ h + params.b_f)
        refine_gate = sigmoid(w_r @ x + r_r @ h - params.b_f)
        effective_gate = 2 * refine_gate * forget_gate + (1 - 2 * refine_gate) * forget_gate**2
        c = effective_gate * c + (1 - effective_gate) * np.tanh(w_u @ x + r_u @ h + b_u)
        h = sigmoid(w_o @ x + r_o @ h + b_o) * np.tanh(c)
        return (h, c), h

    return Reference(step, zero_state(hidden, hidden))


CASE = Case(jaxrnn.URLSTM(4), ur_lstm(4))


@pytest.mark.slow
def test_gates_of_the_ur_lstm_begin_at_all_time_scales():
    gate = np.sort(sigmoid(to_numpy(jaxrnn.URLSTM(500).init(jax.random.key(0), INPUT).b_f)))
    assert 1 / 500 <= gate[0] < 0.02
    assert 0.98 < gate[-1] <= 1 - 1 / 500
    assert np.abs(gate - np.linspace(0, 1, 500)).max() < 0.08  # uniform
    assert np.isfinite(jaxrnn.URLSTM(1).init(jax.random.key(0), INPUT).b_f).all()
