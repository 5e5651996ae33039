"""SLSTM: its equations in NumPy and its own tests."""

import jax
import numpy as np
import pytest

import jaxrnn
from tests.support.comparisons import to_numpy
from tests.support.inputs import INPUT
from tests.support.references import Case, Reference, parts, sigmoid, zero_state

pytestmark = pytest.mark.usefixtures("x64", "quick")


def slstm(hidden, heads):
    """Beck et al. 2024, eqs. 8 to 14 without a stabilizer: the state's true c and n are exp(m) times those kept."""

    def step(params, state, x):
        h, c, n, m = state
        size = hidden // heads
        pre = []
        for k, (w, b) in enumerate(zip(parts(params.w_x, 4), np.split(params.b, 4), strict=True)):
            r = np.zeros((hidden, hidden))
            for head in range(heads):
                block = slice(head * size, (head + 1) * size)
                r[block, block] = params.w_h[head][:, k * size : (k + 1) * size].T
            pre.append(w @ x + r @ h + b)
        i, f, z, o = np.exp(pre[0]), sigmoid(pre[1]), np.tanh(pre[2]), sigmoid(pre[3])
        m_new = np.log(np.where(n == 0, i, np.maximum(f * np.exp(m), i)))
        c, n = f * (np.exp(m) * c) + i * z, f * (np.exp(m) * n) + i
        h = o * c / n
        return (h, c * np.exp(-m_new), n * np.exp(-m_new), m_new), h

    return Reference(step, zero_state(hidden, hidden, hidden, hidden), analytic=False)


CASE = Case(
    jaxrnn.SLSTM(4, num_heads=2),
    slstm(4, 2),
    variants={
        "one head": Case(jaxrnn.SLSTM(4), slstm(4, 1)),
    },
)


def test_blocks_of_the_slstm_are_orthogonal():
    w_h = to_numpy(jaxrnn.SLSTM(6, num_heads=2).init(jax.random.key(0), INPUT).w_h)
    assert w_h.shape == (2, 3, 12)
    blocks = [block for head in w_h for block in np.split(head, 4, axis=1)]
    assert all(np.allclose(block @ block.T, np.eye(3)) for block in blocks)
    assert len({block.tobytes() for block in blocks}) == 8
