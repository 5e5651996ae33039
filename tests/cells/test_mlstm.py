"""MLSTM: its equations in NumPy and its own tests."""

import numpy as np

import jaxrnn
from tests.support.references import Case, Reference, parts, sigmoid


def mlstm(hidden, heads):
    """Beck et al. 2024, eqs. 19 to 27 without a stabilizer: the true C and n are exp(m) times those kept."""
    d = hidden // heads

    def step(params, state, x):
        c, n, m = (np.reshape(leaf, (heads, *shape)) for leaf, shape in zip(state, [(d, d), (d,), ()], strict=True))
        w_q, w_k, w_v, w_o = parts(params.w_x, 4)
        b_q, b_k, b_v, b_o = parts(params.b, 4)
        q, k, v = w_q @ x + b_q, w_k @ x / np.sqrt(d) + b_k, w_v @ x + b_v
        i, f = np.split(params.w_gates.T @ x + params.b_gates, 2)
        i, f = np.exp(i), sigmoid(f)
        new, out = [], []
        for head in range(heads):
            block = slice(head * d, (head + 1) * d)
            scale = np.exp(m[head])
            memory = f[head] * scale * c[head] + i[head] * np.outer(v[block], k[block])
            norm = f[head] * scale * n[head] + i[head] * k[block]
            out.append(memory @ q[block] / max(abs(norm @ q[block]), 1))
            kept = max(f[head] * scale, i[head])
            new.append((memory / kept, norm / kept, np.log(kept)))
        h = sigmoid(w_o @ x + b_o) * np.concatenate(out)
        return tuple(np.array(leaf) for leaf in zip(*new, strict=True)), h

    return Reference(
        step, lambda params: (np.zeros((heads, d, d)), np.zeros((heads, d)), np.zeros(heads)), analytic=False
    )


CASE = Case(
    jaxrnn.MLSTM(6, num_heads=2),
    mlstm(6, 2),
    variants={
        "one head": Case(jaxrnn.MLSTM(4), mlstm(4, 1)),
    },
)
