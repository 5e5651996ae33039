"""GridLSTM: its equations in NumPy and its own tests."""

import jax.numpy as jnp
import numpy as np
import pytest

import jaxrnn
from jaxrnn import unroll
from tests.support.comparisons import assert_close
from tests.support.inputs import draw, draw_params
from tests.support.references import Case, Reference, parts, sigmoid

pytestmark = pytest.mark.usefixtures("x64", "quick")
TIME, BATCH = 4, 2


def grid_lstm(hidden, depth):
    """Kalchbrenner et al. 2016, in two dimensions; the input enters the depth from below as h and m."""

    def lstm(weights, biases, hidden_vectors, memory):
        """Their LSTM(H, m, W), the gates in the order u, f, o, c."""
        stacked = np.concatenate(hidden_vectors)
        u, f, o, c = (w @ stacked + b for w, b in zip(weights, biases, strict=True))
        memory = sigmoid(f) * memory + sigmoid(u) * np.tanh(c)
        return np.tanh(sigmoid(o) * memory), memory

    def step(params, state, x):
        hs, ms, _ = (np.array(leaf) for leaf in state)
        hs, ms = hs.reshape(depth, hidden), ms.reshape(depth, hidden)
        up, up_m = (v @ x for v in parts(params.w_x, 2))
        new_h, new_m = [], []
        for layer in range(depth):
            weights = parts(np.concatenate([params.w_h[layer], params.w_u[layer]]), 8)
            biases = parts(params.b[layer], 8)
            sides = [hs[layer], up]
            in_time = lstm(weights[:4], biases[:4], sides, ms[layer])
            up, up_m = lstm(weights[4:], biases[4:], sides, up_m)
            new_h.append(in_time[0])
            new_m.append(in_time[1])
        return (np.array(new_h), np.array(new_m), up), up

    return Reference(step, lambda params: (np.zeros((depth, hidden)), np.zeros((depth, hidden)), np.zeros(hidden)))


CASE = Case(jaxrnn.GridLSTM(4, depth_size=2), grid_lstm(4, 2))


def test_one_step_up_the_grid_passes_memories_on():
    """Where every gate of depth keeps, the memory that the input brings arrives at the top as it is."""
    cell = jaxrnn.GridLSTM(4, depth_size=3)
    params, xs = draw_params(cell), draw(TIME, BATCH, 3)
    keep = jnp.repeat(jnp.array([0, 0, 0, 0, -60.0, 60, 60, 0]), 4)
    params = params._replace(b=tuple(keep for _ in params.b))
    _, ys = unroll(cell, params, xs)
    assert_close(ys, np.tanh(xs @ params.w_x[:, 4:]))
