"""Loops differ in cost, never in result: every loop equals `Scan()` in value and gradient."""

import math
import pickle
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxrnn
from jaxrnn.loops import AssociativeScan, Chunked, Deferred, Newton, Scan
from tests.support.cases import LOOPS
from tests.support.comparisons import assert_close
from tests.support.inputs import INPUT, draw, draw_params, draw_state
from tests.support.loops import BATCH, LENGTHS, RESETS, TIME, compare, value_and_gradients
from tests.support.tiers import slow, slow_but

pytestmark = pytest.mark.usefixtures("x64", "quick")


# Half of the eight combinations; they contain all four combinations of any two options.
COMBINATIONS = [(0, 0, False), (0, 1, True), (1, 0, True), (1, 1, False)]


@pytest.mark.parametrize(
    ("loop", "lengths", "resets", "reverse"),
    [
        (name, *which) if name == "deferred-blocks" or which == (1, 1, False) else slow(name, *which)
        for name in LOOPS
        for which in COMBINATIONS
    ],
)
def test_equals_scan_under_every_combination(loop, lengths, resets, reverse):
    cell = jaxrnn.LearnedInitialState(jaxrnn.PeepholeLSTM(4))
    compare(cell, LOOPS[loop], key=None, lengths=LENGTHS[lengths], resets=RESETS[resets], reverse=reverse)


@pytest.mark.parametrize("loop", slow_but(LOOPS, ["deferred"]))
def test_equals_scan_under_a_key_alone(loop):
    cell = jaxrnn.Zoneout(jaxrnn.RecurrentDropout(jaxrnn.GRU(4), 0.5), rate=0.3)
    compare(cell, LOOPS[loop], key=jax.random.key(1), lengths=None, resets=None, reverse=False)


@pytest.mark.parametrize("time", [0, slow(1), 3, slow(4), slow(8)])
@pytest.mark.parametrize("loop", LOOPS.values(), ids=LOOPS)
def test_equals_scan_at_other_lengths(loop, time):
    cell = jaxrnn.LSTM(4)
    params = draw_params(cell)
    args = params, draw(time, BATCH, INPUT), draw_state(cell, params, (BATCH,))
    one, other = (value_and_gradients(cell, which, args, None, None, None, reverse=True) for which in (loop, Scan()))
    assert_close(one, other, rtol=1e-9)


@pytest.mark.parametrize("loop", LOOPS.values(), ids=LOOPS)
def test_keeps_dtypes(loop):
    cell = jaxrnn.LSTM(4)
    params = jax.tree.map(lambda leaf: leaf.astype(jnp.bfloat16), draw_params(cell))
    xs, state = jnp.asarray(draw(TIME, BATCH, INPUT), jnp.bfloat16), draw_state(cell, params, (BATCH,))
    state = jax.tree.map(lambda leaf: leaf.astype(jnp.float32), state)
    (last, ys), grads = value_and_gradients(cell, loop, (params, xs, state), None, None, None, reverse=False)
    assert ys.dtype == jnp.bfloat16
    assert {leaf.dtype for leaf in jax.tree.leaves(last)} == {np.dtype(np.float32)}
    for grad, arg in zip(jax.tree.leaves(grads), jax.tree.leaves((params, xs, state)), strict=True):
        assert grad.dtype == arg.dtype
    (_, expected), _ = value_and_gradients(cell, Scan(), (params, xs, state), None, None, None, reverse=False)
    np.testing.assert_allclose(ys.astype(np.float32), expected.astype(np.float32), rtol=0.02, atol=0.01)


@pytest.mark.parametrize("loop", LOOPS.values(), ids=LOOPS)
def test_runs_several_batch_axes_none_and_vmap(loop):
    cell = jaxrnn.GRU(4)
    params, xs = draw_params(cell), draw(TIME, 2, 3, INPUT)
    _, ys = jaxrnn.unroll(cell, params, xs, loop=loop)
    assert_close(ys, jaxrnn.unroll(cell, params, xs)[1], rtol=1e-9)
    assert_close(ys[:, 1, 2], jaxrnn.unroll(cell, params, xs[:, 1, 2], loop=loop)[1], rtol=1e-9)
    over_batch = jax.vmap(lambda xs: jaxrnn.unroll(cell, params, xs, loop=loop)[1], in_axes=1, out_axes=1)
    assert_close(ys, over_batch(xs), rtol=1e-9)


@pytest.mark.parametrize("loop", LOOPS.values(), ids=LOOPS)
def test_a_loop_is_a_value(loop):

    again = pickle.loads(pickle.dumps(loop))
    assert again == loop
    assert hash(again) == hash(loop)


def test_checkpoints_keep_fewer_values_for_the_backward_pass():
    cell = jaxrnn.LSTM(8)
    params, xs = draw_params(cell), draw(64, INPUT)

    def kept(loop):
        _, pullback = jax.vjp(lambda params: jaxrnn.unroll(cell, params, xs, loop=loop)[1], params)
        return sum(leaf.size for leaf in jax.tree.leaves(pullback))

    assert kept(Scan(checkpoint_every=8)) < kept(Scan()) / 2


@pytest.mark.parametrize(
    ("cell", "loop"),
    [
        slow(jaxrnn.LSTM(64), Scan(checkpoint_every=64)),
        (jaxrnn.LSTM(64), Deferred(checkpoint_every=64)),
        slow(jaxrnn.LRU(64, 64), AssociativeScan(checkpoint_every=16)),
        slow(jaxrnn.ParaGRU(64), Newton(checkpoint_every=16)),
        slow(jaxrnn.LinearAttention(16, 64), Chunked(checkpoint_every=64)),
    ],
)
def test_checkpoints_of_one_sequence_need_memory_for_its_outputs_alone(cell, loop):
    """The outputs and their gradient, one chunk, and the states between chunks; no copies."""
    length = 32_768
    params, xs = draw_params(cell, input_size=64), jax.ShapeDtypeStruct((length, 1, 64), float)

    def loss_fn(params, xs):
        return (jaxrnn.unroll(cell, params, xs, loop=loop)[1] ** 2).sum()

    (shape,) = {jax.eval_shape(lambda xs: jaxrnn.unroll(cell, params, xs, loop=loop)[1], xs).shape}
    gradient: Any = jax.jit(jax.grad(loss_fn)).lower(params, xs).compile()
    assert gradient.memory_analysis().temp_size_in_bytes < 2.5 * 8 * math.prod(shape)
