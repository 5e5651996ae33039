"""ClockworkRNN: its equations in NumPy and its own tests."""

import numpy as np
import pytest

import jaxrnn
from tests.support.comparisons import assert_close
from tests.support.inputs import INPUT, draw, draw_params
from tests.support.references import Case, Reference

pytestmark = pytest.mark.usefixtures("x64", "quick")


def clockwork_rnn(hidden, periods):
    """Koutnik et al. 2014, module by module."""
    size = hidden // len(periods)
    modules = [slice(i * size, (i + 1) * size) for i in range(len(periods))]

    def step(params, state, x):
        h, t = state
        new = np.array(h)
        for i, of_i in enumerate(modules):
            if int(t) % periods[i] == 0:
                a = params.w_x[:, of_i].T @ x + params.b[of_i]
                for of_j in modules[i:]:  # the slower ones and itself
                    a = a + params.w_h[of_j, of_i].T @ h[of_j]
                new[of_i] = np.tanh(a)
        return (new, (t + 1) % np.lcm.reduce(periods)), new

    return Reference(step, lambda params: (np.zeros(hidden), 0), analytic=False)


CASE = Case(jaxrnn.ClockworkRNN(6, periods=(1, 2, 3)), clockwork_rnn(6, (1, 2, 3)))


def test_a_clock_is_of_each_sequence():
    """A sequence that begins later has its own count of steps."""
    cell = jaxrnn.ClockworkRNN(6, periods=(1, 2, 3))
    params, xs = draw_params(cell), draw(8, 2, INPUT)
    resets = np.zeros((8, 2), bool)
    resets[3, 1] = True
    _, ys = jaxrnn.unroll(cell, params, xs, resets=resets)
    _, alone = jaxrnn.unroll(cell, params, xs[3:, 1])
    assert_close(ys[3:, 1], alone)
    assert_close(ys[:, 0], jaxrnn.unroll(cell, params, xs[:, 0])[1])
