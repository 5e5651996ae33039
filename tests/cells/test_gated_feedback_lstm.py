"""GatedFeedbackLSTM: its equations in NumPy and its own tests."""

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


def gated_feedback_lstm(hidden, depth):
    """Chung et al. 2015: a number decides how much of layer i's past the layer j sees."""

    def step(params, state, x):
        hs, cs = (np.reshape(leaf, (depth, hidden)) for leaf in state)
        everything = np.concatenate(list(hs))
        below, new_h, new_c = x, [], []
        for j in range(depth):
            w = (params.w_u[j - 1] if j else params.w_x).T
            w_i, w_f, w_g, w_o = np.split(w[: 4 * hidden], 4)
            u_i, u_f, u_o = parts(params.w_h[j], 3)
            b_i, b_f, b_g, b_o = parts(params.b[j], 4)
            content = w_g @ below + b_g
            for i in range(depth):
                gate = sigmoid(w[4 * hidden + i] @ below + params.w_s[j][:, i] @ everything)
                content = content + gate * (params.w_g[j][i * hidden : (i + 1) * hidden].T @ hs[i])
            forget = sigmoid(w_f @ below + u_f @ hs[j] + b_f)
            write = sigmoid(w_i @ below + u_i @ hs[j] + b_i)
            new_c.append(forget * cs[j] + write * np.tanh(content))
            new_h.append(sigmoid(w_o @ below + u_o @ hs[j] + b_o) * np.tanh(new_c[-1]))
            below = new_h[-1]
        return (np.array(new_h), np.array(new_c)), below

    return Reference(step, lambda params: (np.zeros((depth, hidden)), np.zeros((depth, hidden))))


CASE = Case(jaxrnn.GatedFeedbackLSTM(4, depth_size=2), gated_feedback_lstm(4, 2))


def test_with_its_own_past_alone_gated_feedback_is_a_stack():
    cell, stack = jaxrnn.GatedFeedbackLSTM(4, depth_size=2), jaxrnn.Stack(jaxrnn.LSTM(4), jaxrnn.LSTM(4))
    params, xs = draw_params(cell), draw(TIME, BATCH, 3)
    first, last = (w_g[4 * j : 4 * j + 4] for j, w_g in enumerate(params.w_g))
    own = [jnp.concatenate([first, 0 * first]), jnp.concatenate([0 * last, last])]  # nothing comes from other layers
    params = params._replace(w_g=tuple(2 * w_g for w_g in own))
    params = params._replace(w_x=params.w_x.at[:, 16:].set(0), w_u=(params.w_u[0].at[:, 16:].set(0),))
    params = params._replace(w_s=tuple(0 * w_s for w_s in params.w_s))  # and of its own past a half, doubled above

    def lstm(w_x, j):
        i, f, o = jnp.split(params.w_h[j], 3, axis=-1)
        w_h = jnp.concatenate([i, f, (first, last)[j], o], axis=-1)
        return jaxrnn.cells.LSTMParams(w_x[:, :16], w_h, params.b[j])

    of_stack = (lstm(params.w_x, 0), lstm(params.w_u[0], 1))
    assert_close(unroll(cell, params, xs)[1], unroll(stack, of_stack, xs)[1])
