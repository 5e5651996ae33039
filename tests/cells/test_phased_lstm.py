"""PhasedLSTM: its equations in NumPy and its own tests."""

import jax
import numpy as np
import pytest

import jaxrnn
from tests.support.comparisons import to_numpy
from tests.support.inputs import INPUT
from tests.support.references import Case, Reference, parts, sigmoid, zero_state

pytestmark = pytest.mark.usefixtures("x64", "quick")


def phased_lstm(hidden, ratio, leak):
    """Neil et al. 2016: a peephole LSTM behind a time gate, unit by unit."""

    def openness(time, period, shift):
        phase = (time - shift) / period
        phase -= np.floor(phase)
        if phase < ratio / 2:
            return 2 * phase / ratio
        return 2 - 2 * phase / ratio if phase < ratio else leak * phase

    def step(params, state, x):
        h, c = state
        x, time = x[:-1], x[-1]
        w_i, w_f, w_g, w_o = parts(params.w_x, 4)
        r_i, r_f, r_g, r_o = parts(params.w_h, 4)
        b_i, b_f, b_g, b_o = parts(params.b, 4)
        p_i, p_f, p_o = (np.diag(row) for row in params.w_c)
        k = np.array([openness(time, p, s) for p, s in zip(params.period, params.shift, strict=True)])
        input_gate = sigmoid(w_i @ x + r_i @ h + p_i @ c + b_i)
        forget_gate = sigmoid(w_f @ x + r_f @ h + p_f @ c + b_f)
        proposed_c = forget_gate * c + input_gate * np.tanh(w_g @ x + r_g @ h + b_g)
        output_gate = sigmoid(w_o @ x + r_o @ h + p_o @ proposed_c + b_o)
        proposed_h = output_gate * np.tanh(proposed_c)
        c = k * proposed_c + (1 - k) * c
        h = k * proposed_h + (1 - k) * h
        return (h, c), h

    return Reference(step, zero_state(hidden, hidden), analytic=False)


CASE = Case(
    jaxrnn.PhasedLSTM(4, open_ratio=0.6),
    phased_lstm(4, 0.6, 0.001),
    reads_symbols=False,
    variants={
        "the paper's ratio": Case(jaxrnn.PhasedLSTM(4), phased_lstm(4, 0.05, 0.001)),
        "no leak": Case(jaxrnn.PhasedLSTM(4, open_ratio=0.5, leak_rate=0.0), phased_lstm(4, 0.5, 0.0)),
    },
)


@pytest.mark.slow
def test_periods_of_the_phased_lstm():
    params = to_numpy(jaxrnn.PhasedLSTM(500, log_periods=(1.0, 2.0)).init(jax.random.key(0), INPUT))
    assert np.e <= params.period.min() < 1.05 * np.e
    assert 0.95 * np.e**2 < params.period.max() <= np.e**2
    assert 0 <= (params.shift / params.period).min() < (params.shift / params.period).max() <= 1
