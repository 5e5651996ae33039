"""Cells with exponential gates, at the limits of float32."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxrnn
from tests.support.inputs import INPUT, draw, draw_params

pytestmark = pytest.mark.usefixtures("x64", "quick")
TIME, BATCH = 5, 2


@pytest.mark.parametrize("gate", [-200.0, 200.0])
@pytest.mark.parametrize("cell", [jaxrnn.SLSTM(4, num_heads=2), jaxrnn.MLSTM(4, num_heads=2)], ids=repr)
def test_exponential_gates_do_not_overflow(cell, gate):
    """Where exp(gate) is infinite or zero in float32, from the first step on."""
    params = jax.tree.map(lambda leaf: leaf.astype(jnp.float32), draw_params(cell))
    name = "b_gates" if isinstance(cell, jaxrnn.MLSTM) else "b"
    inputs = 2 if isinstance(cell, jaxrnn.MLSTM) else 4
    params = params._replace(**{name: getattr(params, name).at[:inputs].set(gate)})
    xs = draw(TIME, BATCH, INPUT).astype(np.float32)
    ys, pull = jax.vjp(lambda params: jaxrnn.unroll(cell, params, xs)[1], params)
    assert ys.dtype == np.float32
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves((ys, pull(jnp.ones_like(ys)))))
