"""Cells with complex states."""

from functools import partial

import jax
import jax.numpy as jnp
import pytest

import jaxrnn
from jaxrnn import S5, Retention, unroll
from tests.support.inputs import INPUT

pytestmark = pytest.mark.usefixtures("x64", "quick")
TIME, SYMBOLS = 6, 5


@pytest.mark.parametrize(
    "cell",
    [S5(4, 2), jaxrnn.S4D(4), Retention(8, num_heads=2), jaxrnn.HGRN(4), jaxrnn.LRU(4, 2), jaxrnn.LinearRTU(4)],
    ids=repr,
)
def test_states_of_complex_numbers_beside_parameters_of_low_precision(cell):
    params = jax.tree.map(lambda leaf: leaf.astype(jnp.bfloat16), cell.init(jax.random.key(0), INPUT))
    xs = jnp.zeros((TIME, INPUT), jnp.bfloat16)
    for loop in (jaxrnn.loops.Deferred(), jaxrnn.loops.AssociativeScan()):
        last, ys = jax.eval_shape(partial(unroll, cell, loop=loop), params, xs)
        assert ys.dtype == jnp.bfloat16
        assert {leaf.dtype for leaf in jax.tree.leaves(last)} == {jnp.dtype("complex64")}
