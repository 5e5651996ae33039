"""ONLSTM: its equations in NumPy and its own tests."""

import numpy as np
import pytest

import jaxrnn
from tests.support import references
from tests.support.comparisons import to_numpy
from tests.support.inputs import INPUT, draw, draw_params, draw_state
from tests.support.references import Case, Reference, parts, sigmoid, zero_state

pytestmark = pytest.mark.usefixtures("x64", "quick")


def on_lstm(hidden, chunk):
    """Shen et al. 2019, eqs. 6 to 14: cumax master gates, each entry for a chunk of memories."""

    def cumax(a):
        weights = np.exp(a) / np.exp(a).sum()
        return np.array([weights[: k // chunk + 1].sum() for k in range(hidden)])

    def step(params, state, x):
        h, c = state
        w_i, w_f, w_g, w_o = parts(params.w_x, 4)
        r_i, r_f, r_g, r_o = parts(params.w_h, 4)
        b_i, b_f, b_g, b_o = parts(params.b, 4)
        w_mi, w_mf = parts(params.w_x_master, 2)
        r_mi, r_mf = parts(params.w_h_master, 2)
        b_mi, b_mf = parts(params.b_master, 2)
        master_forget = cumax(w_mf @ x + r_mf @ h + b_mf)
        master_input = 1 - cumax(w_mi @ x + r_mi @ h + b_mi)
        overlap = master_forget * master_input
        forget_gate = sigmoid(w_f @ x + r_f @ h + b_f) * overlap + (master_forget - overlap)
        input_gate = sigmoid(w_i @ x + r_i @ h + b_i) * overlap + (master_input - overlap)
        c = forget_gate * c + input_gate * np.tanh(w_g @ x + r_g @ h + b_g)
        h = sigmoid(w_o @ x + r_o @ h + b_o) * np.tanh(c)
        return (h, c), h

    return Reference(step, zero_state(hidden, hidden))


CASE = Case(
    jaxrnn.ONLSTM(4, chunk_size=2), on_lstm(4, 2), variants={"no chunks": Case(jaxrnn.ONLSTM(4), on_lstm(4, 1))}
)


def test_with_one_chunk_the_memory_never_changes():
    """The only master gate is then 1, so that no gate has an effect but the output gate."""
    cell = jaxrnn.ONLSTM(4, chunk_size=4)
    params, xs = draw_params(cell), draw(5, 2, INPUT)
    state = draw_state(cell, params, (2,))
    last, ys = jaxrnn.unroll(cell, params, xs, state)
    (_, expected_c), expected_ys = references.run(on_lstm(4, 4), to_numpy(params), xs, to_numpy(tuple(state)))
    np.testing.assert_allclose(ys, expected_ys, rtol=1e-12)
    np.testing.assert_allclose(last.c, expected_c, rtol=1e-12)
    np.testing.assert_allclose(last.c, state.c, rtol=1e-12)
