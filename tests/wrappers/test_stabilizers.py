"""Wrappers that mix states, around cells that store sums relative to a stabilizer, the logarithm of a common factor."""

from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxrnn
from jaxrnn import FastSlow, Multiplicative, Skip, Zoneout, unroll
from jaxrnn.ops import affine, tanh
from tests.support.comparisons import assert_close, to_numpy
from tests.support.inputs import INPUT, draw, draw_params, draw_state
from tests.support.references import parts, sigmoid
from tests.support.tiers import slow_but

pytestmark = pytest.mark.usefixtures("x64", "quick")
TIME, BATCH = 6, 2

CELLS = {"SLSTM": jaxrnn.SLSTM(4), "MLSTM": jaxrnn.MLSTM(4, num_heads=2), "RWKV": jaxrnn.RWKV(4)}
WRAPPERS = {
    "Zoneout": lambda cell: Zoneout(cell, rate=0.3),
    "Zoneout, random": lambda cell: Zoneout(cell, rate=0.3),
    "Zoneout of a wrapper": lambda cell: Zoneout(jaxrnn.LearnedInitialState(cell), rate=0.3),
}


def shifted(state, by):
    """Returns an equal state of one of these cells, whose stabilizers are larger by a number."""
    stabilizer = "p" if hasattr(state, "p") else "m"
    sums = {"a", "b", "c", "n"} & set(state._fields)
    changed = {name: getattr(state, name) * np.exp(-by) for name in sums}
    return state._replace(**changed, **{stabilizer: getattr(state, stabilizer) + by})


ALL = [(cell, wrapper) for cell in CELLS for wrapper in WRAPPERS]


@pytest.mark.parametrize(
    ("cell", "wrapper"),
    slow_but(ALL, [("SLSTM", "Zoneout"), ("MLSTM", "Zoneout of a wrapper"), ("RWKV", "Zoneout, random")]),
)
def test_equal_states_give_equal_outputs(cell, wrapper):
    """Mixing the sums of two states whose stabilizers differ would not."""
    layer = WRAPPERS[wrapper](CELLS[cell])
    params, xs = draw_params(layer), draw(TIME, BATCH, INPUT)
    state = jax.tree.map(jnp.abs, draw_state(layer, params, (BATCH,)))
    key = jax.random.key(0) if "random" in wrapper else None

    @jax.jit
    def value_and_gradient(state):
        return jax.value_and_grad(lambda params: (unroll(layer, params, xs, state, key=key)[1] ** 2).sum())(params)

    assert_close(value_and_gradient(state), value_and_gradient(shifted(state, 1.5)), rtol=1e-9)


def test_zoneout_of_an_slstm_equals_that_of_one_without_a_stabilizer():
    rates = jaxrnn.cells.SLSTMState(h=0.1, c=0.4, n=0.2, m=0.3)  # that of the stabilizer has no effect
    cell = Zoneout(jaxrnn.SLSTM(4), rate=rates)
    params, xs = draw_params(cell), draw(TIME, BATCH, INPUT)
    last, _ = unroll(cell, params, xs)
    p = to_numpy(params)
    for b in range(BATCH):
        h, c, n = np.zeros((3, 4))
        for x in xs[:, b]:
            gates = zip(parts(p.w_x, 4), parts(p.w_h[0], 4), parts(p.b, 4), strict=True)
            i, f, z, o = (w @ x + r @ h + bias for w, r, bias in gates)
            c_new, n_new = sigmoid(f) * c + np.exp(i) * np.tanh(z), sigmoid(f) * n + np.exp(i)
            h = 0.1 * h + 0.9 * sigmoid(o) * c_new / n_new
            c, n = 0.4 * c + 0.6 * c_new, 0.2 * n + 0.8 * n_new
        factor = np.exp(np.asarray(last.m[b]))
        assert_close((last.h[b], factor * last.c[b], factor * last.n[b]), (h, c, n))


def test_wrappers_make_the_states_of_their_cells_comparable():
    inner = CELLS["SLSTM"]
    for cell in (Multiplicative(inner), jaxrnn.Mogrifier(inner), jaxrnn.RecurrentDropout(inner, 0.5)):
        params = draw_params(cell)
        one, other = (draw_state(cell, params, (BATCH,), seed=seed) for seed in (1, 2))
        assert_close(cell.comparable(one, other), inner.comparable(one, other))
    cell = Skip(inner)
    params = draw_params(cell)
    one, other = (draw_state(cell, params, (BATCH,), seed=seed) for seed in (1, 2))
    expected = inner.comparable(one.cell, other.cell)
    assert_close(cell.comparable(one, other), (one._replace(cell=expected[0]), other._replace(cell=expected[1])))
    cell = FastSlow((inner, inner), inner)
    params = draw_params(cell)
    one, other = (draw_state(cell, params, (BATCH,), seed=seed) for seed in (1, 2))
    found = cell.comparable(one, other)
    assert_close([state.fast for state in found], inner.comparable(one.fast, other.fast))
    assert_close([state.slow for state in found], inner.comparable(one.slow, other.slow))


# ---- states that are not numbers -------------------------------------------------------------------------------------


class NoisyState(NamedTuple):
    h: Any
    key: Any


@dataclass(frozen=True)
class Noisy(jaxrnn.Cell):
    """A cell that draws noise in its step, from a random key in its state."""

    hidden_size: int

    def init(self, key, input_size):
        return jax.random.normal(key, (input_size, self.hidden_size))

    def initial_state(self, params, batch_shape=(), dtype=None):
        h = jnp.zeros((*batch_shape, self.hidden_size), params.dtype if dtype is None else dtype)
        return NoisyState(h, jnp.broadcast_to(jax.random.key(0), batch_shape))

    def project(self, params, x, key=None):
        return affine(x, params)

    def step(self, params, state, z):
        noise = jax.vmap(lambda key: jax.random.normal(key, (self.hidden_size,)))(state.key)
        return NoisyState(tanh(z + state.h + noise), jax.vmap(lambda key: jax.random.split(key)[0])(state.key))

    def readout(self, params, state, z):
        return state.h


@pytest.mark.parametrize("seed", [None, 0])
def test_zoneout_leaves_random_keys_alone(seed):
    cell, key = Noisy(3), None if seed is None else jax.random.key(seed)
    params, xs = draw_params(cell), draw(TIME, BATCH, INPUT)
    expected, plain = unroll(cell, params, xs)
    state, ys = unroll(Zoneout(cell, rate=0.5), params, xs, key=key)
    np.testing.assert_array_equal(jax.random.key_data(state.key), jax.random.key_data(expected.key))
    assert np.isfinite(ys).all()
    assert (ys != plain).any()
    _, ys = unroll(Zoneout(cell, rate=0.0), params, xs, key=key)
    assert_close(ys, plain)
