"""The bias that makes a gated cell keep its state."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxrnn
from tests.support.comparisons import to_numpy
from tests.support.inputs import draw
from tests.support.tiers import slow

pytestmark = pytest.mark.usefixtures("x64", "quick")
KEY = jax.random.key(0)


@pytest.mark.parametrize("bias", [1.5, slow(jaxrnn.Chrono(100))], ids=repr)
@pytest.mark.parametrize(
    ("kind", "argument", "place", "sign"),
    [
        (jaxrnn.MGU, "keep_bias", 0, -1),
        (jaxrnn.LiGRU, "update_bias", 0, 1),
        (jaxrnn.LightRU, "keep_bias", 0, -1),
        (jaxrnn.CFN, "forget_bias", 0, 1),
        (jaxrnn.MUT1, "keep_bias", 0, -1),
        (jaxrnn.MUT2, "keep_bias", 0, -1),
        (jaxrnn.MUT3, "keep_bias", 0, -1),
        (jaxrnn.UGRNN, "forget_bias", 0, 1),
        (jaxrnn.IntersectionRNN, "forget_bias", 0, 1),
        (jaxrnn.SGRN, "forget_bias", 0, 1),
        (jaxrnn.SGU, "keep_bias", 0, -1),
        (jaxrnn.DSGU, "keep_bias", 0, -1),
        (jaxrnn.MinimalRNN, "update_bias", 0, 1),
        (jaxrnn.BRC, "keep_bias", 1, 1),
        (jaxrnn.NBRC, "keep_bias", 1, 1),
        (jaxrnn.STAR, "keep_bias", 0, -1),
        (jaxrnn.FastGRNN, "update_bias", 0, 1),
        (jaxrnn.LayerNormGRU, "keep_bias", 0, -1),
        (partial(jaxrnn.TauGRU, delay_size=2), "keep_bias", 1, -1),
    ],
    ids=lambda value: getattr(value, "__name__", str(value)).split("(")[0],
)
def test_a_bias_keeps_the_state(kind, argument, place, sign, bias):
    """The position and the sign of the bias; and a larger one makes the state last longer."""
    n = 33
    b = to_numpy(kind(n, **{argument: bias}).init(KEY, n).b)
    keep, rest = sign * b[place * n : place * n + n], np.delete(b, slice(place * n, place * n + n))
    if isinstance(bias, float):
        np.testing.assert_array_equal(keep, bias)
        assert not rest.any()
    else:
        assert 0 <= keep.min() < np.log(30) < keep.max() <= np.log(99)
    lost = []
    for value in (0.0, 8.0):
        cell = kind(n, **{argument: value})
        params = cell.init(KEY, n)
        state, x = cell.initial_state(params), 0.3 * draw(n)
        one, other = (jaxrnn.step(cell, params, state._replace(h=jnp.full(n, h)), x)[0].h for h in (0.1, -0.1))
        lost.append(jnp.abs(one - other - 0.2).mean())
    assert lost[1] < lost[0] / 2
