"""Cells against Keras', Flax', Haiku's and Equinox' with the same weights: value and gradient.

A peer is a function `(params, xs, state) -> (state, ys)` of our parameters, which it maps to its own inside,
so that its gradient comes out as ours should.
"""

from functools import partial

import jax
import jax.numpy as jnp
import pytest

from jaxrnn import GRU, LSTM, Elman, ResetAfterMGU, ResetBeforeGRU, unroll
from tests.support.comparisons import assert_close
from tests.support.peers import SIZES, prepare, value_and_gradients
from tests.support.tiers import slow, slow_but

pytestmark = pytest.mark.usefixtures("x64")


def keras_layer(layer):
    """Keras on JAX computes in float32, even if another dtype is asked for."""
    import keras

    def run(weights, xs, state):
        if not layer.built:
            layer.build((xs.shape[1], xs.shape[0], xs.shape[2]))
        fixed = [variable.value for variable in layer.non_trainable_variables]
        outs, _ = layer.stateless_call(list(weights), fixed, xs.swapaxes(0, 1), initial_state=list(state))
        ys, *last = outs
        return last, ys.swapaxes(0, 1)

    assert keras.backend.backend() == "jax"
    return run


def keras_options(hidden):
    return {"units": hidden, "return_sequences": True, "return_state": True, "dtype": "float32"}


def keras_elman(hidden):
    keras = pytest.importorskip("keras")
    run = keras_layer(keras.layers.SimpleRNN(**keras_options(hidden)))
    return Elman(hidden), lambda p, xs, s: run((p.w_x, p.w_h, p.b), xs, s)


def keras_lstm(hidden):
    keras = pytest.importorskip("keras")
    run = keras_layer(keras.layers.LSTM(**keras_options(hidden)))
    return LSTM(hidden), lambda p, xs, s: run((p.w_x, p.w_h, p.b), xs, s)


def keras_gru(hidden):
    """Gates in the order z, r, n; two biases."""
    keras = pytest.importorskip("keras")
    run = keras_layer(keras.layers.GRU(**keras_options(hidden), reset_after=True))

    def peer(p, xs, s):
        swap = partial(swapped, order=(1, 0, 2))
        b_h = jnp.concatenate([jnp.zeros(2 * hidden), p.b_n])
        return run((swap(p.w_x), swap(p.w_h), jnp.stack([swap(p.b), b_h])), xs, s)

    return GRU(hidden), peer


def keras_reset_before_gru(hidden):
    """Gates in the order z, r, a; its z keeps where ours writes, so the weights change their sign."""
    keras = pytest.importorskip("keras")
    run = keras_layer(keras.layers.GRU(**keras_options(hidden), reset_after=False))

    def peer(p, xs, s):
        keep = partial(swapped, order=(1, 0, 2), signs=(-1, 1, 1))
        w_h = jnp.concatenate([p.w_h, p.w_a], axis=-1)
        return run((keep(p.w_x), keep(w_h), keep(p.b)), xs, s)

    return ResetBeforeGRU(hidden), peer


def swapped(array, order, signs=None):
    parts = jnp.split(array, len(order), axis=-1)
    return jnp.concatenate([(signs or [1] * 9)[n] * parts[k] for n, k in enumerate(order)], axis=-1)


def dense(kernel, bias=None):
    return {"kernel": kernel} if bias is None else {"kernel": kernel, "bias": bias}


def linen_run(cell, params, xs, carry):
    from flax import linen as nn

    rnn = nn.RNN(cell, time_major=True, return_carry=True)
    return rnn.apply({"params": {"cell": params}}, xs, initial_carry=carry)


def linen_elman(hidden):
    nn = pytest.importorskip("flax.linen")

    def peer(p, xs, s):
        h, ys = linen_run(nn.SimpleCell(hidden), {"i": dense(p.w_x, p.b), "h": dense(p.w_h)}, xs, s.h)
        return (h,), ys

    return Elman(hidden), peer


def linen_lstm(kind):
    def make(hidden):
        nn = pytest.importorskip("flax.linen")

        def peer(p, xs, s):
            gates = zip("ifgo", *(jnp.split(leaf, 4, axis=-1) for leaf in p), strict=True)
            params = {}
            for gate, w_x, w_h, b in gates:
                params |= {f"i{gate}": dense(w_x), f"h{gate}": dense(w_h, b)}
            (c, h), ys = linen_run(getattr(nn, kind)(hidden), params, xs, (s.c, s.h))
            return (h, c), ys

        return LSTM(hidden), peer

    return make


def linen_gru(hidden):
    nn = pytest.importorskip("flax.linen")

    def peer(p, xs, s):
        params = {}
        for gate, w_x, w_h, b in zip("rzn", *(jnp.split(leaf, 3, axis=-1) for leaf in p[:3]), strict=True):
            params |= {f"i{gate}": dense(w_x, b), f"h{gate}": dense(w_h, p.b_n if gate == "n" else None)}
        h, ys = linen_run(nn.GRUCell(hidden), params, xs, s.h)
        return (h,), ys

    return GRU(hidden), peer


def linen_mgu(hidden):
    nn = pytest.importorskip("flax.linen")

    def peer(p, xs, s):
        params = {}
        for gate, w_x, w_h, b in zip("fn", *(jnp.split(leaf, 2, axis=-1) for leaf in p[:3]), strict=True):
            params |= {f"i{gate}": dense(w_x, b), f"h{gate}": dense(w_h, p.b_n if gate == "n" else None)}
        h, ys = linen_run(nn.MGUCell(hidden), params, xs, s.h)
        return (h,), ys

    return ResetAfterMGU(hidden), peer


def haiku_run(make, params, xs, state):
    hk = pytest.importorskip("haiku")
    run = hk.without_apply_rng(hk.transform(lambda xs, state: hk.dynamic_unroll(make(hk), xs, state)))
    return run.apply(params, xs, state)


def haiku_elman(hidden):
    pytest.importorskip("haiku")

    def peer(p, xs, s):
        params = {"vanilla_rnn/linear": {"w": p.w_x, "b": p.b}, "vanilla_rnn/linear_1": {"w": p.w_h, "b": 0 * p.b}}
        ys, h = haiku_run(lambda hk: hk.VanillaRNN(hidden), params, xs, s.h)
        return (h,), ys

    return Elman(hidden, activation=jax.nn.relu), peer


def haiku_lstm(hidden):
    """Gates in the order i, g, f, o; it adds one to the forget gate in every step."""
    hk = pytest.importorskip("haiku")

    def peer(p, xs, s):
        order = partial(swapped, order=(0, 2, 1, 3))
        b = order(p.b - jnp.repeat(jnp.array([0, 1, 0, 0]), hidden))
        params = {"lstm/linear": {"w": order(jnp.concatenate([p.w_x, p.w_h])), "b": b}}
        ys, last = haiku_run(lambda hk: hk.LSTM(hidden), params, xs, hk.LSTMState(s.h, s.c))
        return (last.hidden, last.cell), ys

    return LSTM(hidden), peer


def haiku_gru(hidden):
    """Gates in the order z, r, a."""
    pytest.importorskip("haiku")

    def peer(p, xs, s):
        order = partial(swapped, order=(1, 0, 2))
        w_h = order(jnp.concatenate([p.w_h, p.w_a], axis=-1))
        ys, h = haiku_run(
            lambda hk: hk.GRU(hidden), {"gru": {"w_i": order(p.w_x), "w_h": w_h, "b": order(p.b)}}, xs, s.h
        )
        return (h,), ys

    return ResetBeforeGRU(hidden), peer


def equinox_peer(cell, xs, state, step):
    def body(state, x):
        state = jax.vmap(lambda x, s: step(cell, x, s))(x, state)
        return state, state[0]

    return jax.lax.scan(body, state, xs)


def equinox_lstm(hidden):
    eqx = pytest.importorskip("equinox")

    def peer(p, xs, s):
        cell = eqx.nn.LSTMCell(xs.shape[-1], hidden, key=jax.random.key(0))
        weights = p.w_x.T, p.w_h.T, p.b
        cell = eqx.tree_at(lambda c: (c.weight_ih, c.weight_hh, c.bias), cell, weights)
        return equinox_peer(cell, xs, tuple(s), lambda cell, x, s: cell(x, s))

    return LSTM(hidden), peer


def equinox_gru(hidden):
    eqx = pytest.importorskip("equinox")

    def peer(p, xs, s):
        cell = eqx.nn.GRUCell(xs.shape[-1], hidden, key=jax.random.key(0))
        weights = p.w_x.T, p.w_h.T, p.b, p.b_n
        cell = eqx.tree_at(lambda c: (c.weight_ih, c.weight_hh, c.bias, c.bias_n), cell, weights)
        return equinox_peer(cell, xs, tuple(s), lambda cell, x, s: (cell(x, s[0]),))

    return GRU(hidden), peer


PEERS = {
    "keras-SimpleRNN": keras_elman,
    "keras-LSTM": keras_lstm,
    "keras-GRU": keras_gru,
    "keras-GRU-reset-before": keras_reset_before_gru,
    "linen-SimpleCell": linen_elman,
    "linen-LSTMCell": linen_lstm("LSTMCell"),
    "linen-OptimizedLSTMCell": linen_lstm("OptimizedLSTMCell"),
    "linen-GRUCell": linen_gru,
    "linen-MGUCell": linen_mgu,
    "haiku-VanillaRNN": haiku_elman,
    "haiku-LSTM": haiku_lstm,
    "haiku-GRU": haiku_gru,
    "equinox-LSTMCell": equinox_lstm,
    "equinox-GRUCell": equinox_gru,
}


@pytest.mark.parametrize("size", [SIZES[0], slow(SIZES[1])], ids=["small", "large"])
@pytest.mark.parametrize("name", slow_but(PEERS, ["linen-LSTMCell", "linen-GRUCell"]))
def test_peer(name, size):
    time, batch, input_size, hidden = size
    cell, peer = PEERS[name](hidden)
    args, rtol = prepare(cell, time, batch, input_size), 1e-10
    if name.startswith("keras"):
        args, rtol = jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float32), args), 1e-5
    expected = jax.jit(partial(value_and_gradients, peer))(*args)
    run = partial(value_and_gradients, partial(unroll, cell))
    assert_close(jax.jit(run)(*args), expected, rtol=rtol)
    if size == SIZES[0]:
        assert_close(run(*args), expected, rtol=rtol)
