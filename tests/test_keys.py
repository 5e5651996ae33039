"""The random keys that `project` receives: keys of JAX, one for each step, each with the key of the whole call."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxrnn
from jaxrnn import Elman, call_key, unroll
from jaxrnn._keys import step_keys
from jaxrnn.loops import Deferred, Scan

pytestmark = pytest.mark.usefixtures("quick")
TIME = 5
KEYS = {"typed": jax.random.key(3), "raw": jax.random.PRNGKey(3), "rbg": jax.random.key(3, impl="rbg")}

over_keys = pytest.mark.parametrize("key", KEYS.values(), ids=KEYS)


class Noisy(Elman):
    """Adds noise to the projected inputs, in part different at each step and in part the same."""

    def project(self, params, x, key=None):
        z = super().project(params, x)
        if key is None:
            return z
        k_step, k_call = jax.random.split(key)
        return z + 0.1 * jax.random.normal(k_step, z.shape) + jax.random.normal(call_key(k_call), z.shape)


DRAWS = {
    "normal": lambda key: jax.random.normal(key, (3,)),
    "bernoulli": lambda key: jax.random.bernoulli(key, 0.5, (30,)),
    "categorical": lambda key: jax.random.categorical(key, jnp.zeros((9, 20))),
    "permutation": lambda key: jax.random.permutation(key, 9),
    "bytes": lambda key: jax.random.bits(key, (9,), jnp.uint8),
    "gamma": lambda key: jax.random.gamma(key, 2.0, (3,)),
    "folded in": lambda key: jax.random.normal(jax.random.fold_in(key, 7), (3,)),
    "split in two axes": lambda key: jax.vmap(jax.vmap(jax.random.normal))(jax.random.split(key, (2, 3))),
    "clone": lambda key: jax.random.normal(jax.random.clone(key), (3,)),
}


@pytest.mark.parametrize("name", DRAWS)
def test_the_key_of_a_step_is_a_key_of_jax(name):
    keys = step_keys(KEYS["typed"], TIME)
    together = jax.vmap(DRAWS[name])(keys)
    alone = [DRAWS[name](key) for key in keys]
    np.testing.assert_allclose(together, alone, rtol=1e-6)
    assert len(np.unique(np.reshape(together, (TIME, -1)), axis=0)) == TIME


@over_keys
def test_steps_differ_and_share_the_key_of_the_call(key):
    keys = step_keys(key, TIME)
    for split in (lambda key: key, lambda key: jax.random.split(key)[1], lambda key: jax.random.fold_in(key, 2)):
        parts = jax.vmap(split)(keys)
        shared = jax.random.key_data(jax.vmap(call_key)(parts))
        assert (shared == shared[0]).all()
        assert len(np.unique(jax.random.key_data(parts), axis=0)) == TIME
    one, other = (jax.random.key_data(call_key(part)) for part in jax.random.split(keys[0]))
    assert (one != other).any()


@over_keys
def test_the_numbers_do_not_depend_on_how_the_steps_are_run(key):
    cell = Noisy(4)
    params = cell.init(KEYS["typed"], 3)
    params = params._replace(w_x=0 * params.w_x, w_h=0 * params.w_h)
    loops = (Scan(), Scan(checkpoint_every=2), Deferred(), Deferred(block=2))
    run = jax.jit(lambda key: [unroll(cell, params, jnp.ones((TIME, 2, 3)), key=key, loop=loop)[1] for loop in loops])
    expected, *others = run(key)
    for ys in others:
        np.testing.assert_allclose(ys, expected, rtol=1e-6)
    np.testing.assert_allclose(np.arctanh(expected), np.broadcast_to(np.arctanh(expected[0]), expected.shape), atol=1)
    assert len(np.unique(expected[:, 0, 0])) > 1


def test_nested_wrappers_share_a_mask_over_the_steps():
    cell = jaxrnn.Zoneout(jaxrnn.RecurrentDropout(Noisy(4), 0.5), rate=0.1)
    params = cell.init(KEYS["typed"], 3)
    steps = jaxrnn.Plan(Scan(), batch_shape=(2,)).steps(jnp.ones((TIME, 2, 3)), KEYS["typed"])
    z = steps.project(cell, params)
    (mask,) = z.z.masks
    assert (mask == mask[0]).all()
    assert len(np.unique(np.reshape(z.masks.h, (TIME, -1)), axis=0)) > 1


def test_a_key_of_one_step_may_be_any_key():
    z = Noisy(4).project(Noisy(4).init(KEYS["typed"], 3), jnp.ones(3), KEYS["typed"])
    assert z.shape == (4,)
    shared = [jax.random.key_data(call_key(key)) for key in KEYS.values()]
    assert (shared[0] == shared[1]).all()  # the same key in two forms
    assert (shared[0] != shared[2]).any()


RANDOM = {
    "dropout": jaxrnn.Dropout(0.5),
    "shared dropout": jaxrnn.Dropout(0.5, shared=True),
    "noisy cell": Noisy(4),
    "wrappers": jaxrnn.Zoneout(jaxrnn.RecurrentDropout(Noisy(4), 0.5), rate=0.3),
    "mogrifier": jaxrnn.Mogrifier(jaxrnn.RecurrentDropout(jaxrnn.LSTM(4), 0.5), rounds=2),
    "fast-slow": jaxrnn.FastSlow((Noisy(4), Noisy(4)), Noisy(4)),
    "stack": jaxrnn.Stack(jaxrnn.GRU(4), jaxrnn.Dropout(0.5), Noisy(4), jaxrnn.Dense(3)),
    "bidirectional": jaxrnn.Bidirectional(Noisy(4)),
    "residual": jaxrnn.Residual(jaxrnn.Stack(Noisy(3), jaxrnn.Dropout(0.5))),
    "densely connected": jaxrnn.DenselyConnected(Noisy(4), jaxrnn.Dropout(0.5)),
    "sliced": jaxrnn.Sliced(jaxrnn.Stack(Noisy(3), jaxrnn.Dropout(0.5)), slices=2),
}


@pytest.mark.parametrize("loop", [Scan(), pytest.param(Deferred(block=2), marks=pytest.mark.slow)], ids=repr)
@pytest.mark.parametrize("name", RANDOM)
def test_what_a_sequence_with_its_own_key_draws_does_not_depend_on_the_others(name, loop):
    layer = RANDOM[name]
    params = layer.init(jax.random.key(0), 3)
    xs = jax.random.normal(jax.random.key(1), (6, 2, 3, 3))
    keys = jax.random.split(jax.random.key(2), (2, 3))

    def loss(params, xs, keys):
        ys = unroll(layer, params, xs, key=keys, loop=loop)[1]
        return (ys**2).sum(), ys

    run = jax.jit(jax.grad(loss, has_aux=True))
    gradient, ys = run(params, xs, keys)
    one_by_one = [[run(params, xs[:, n, m : m + 1], keys[n, m : m + 1]) for m in range(3)] for n in range(2)]
    expected = np.stack([np.concatenate([ys for _, ys in row], 1) for row in one_by_one], 1)
    np.testing.assert_allclose(ys, expected, rtol=1e-5, atol=1e-6)
    for leaf, *parts in zip(*map(jax.tree.leaves, (gradient, *(g for row in one_by_one for g, _ in row))), strict=True):
        np.testing.assert_allclose(leaf, sum(parts), rtol=1e-4, atol=1e-5)
    assert np.abs(ys - run(params, xs, keys[::-1])[1]).max() > 1e-3


@over_keys
def test_keys_of_all_kinds_can_belong_to_sequences(key):
    layer = jaxrnn.Dropout(0.5)
    keys = jax.random.split(key, 3)
    ys = unroll(layer, (), jnp.ones((8, 3, 20)), key=keys)[1]
    assert len(np.unique(ys.swapaxes(0, 1).reshape(3, -1), axis=0)) == 3
    alone = unroll(layer, (), jnp.ones((8, 1, 20)), key=keys[1:2])[1]
    np.testing.assert_array_equal(ys[:, 1:2], alone)


@over_keys
def test_keys_of_all_kinds_can_belong_to_the_sequences_of_one_step(key):
    layer = jaxrnn.Stack(jaxrnn.Dense(4), jaxrnn.Dropout(0.5))
    params = layer.init(KEYS["typed"], 20)
    keys, x = jax.random.split(key, 3), jnp.ones((3, 20))
    expected = unroll(layer, params, x[None], key=keys)[1][0]
    np.testing.assert_array_equal(layer(params, x, key=keys), expected)
    np.testing.assert_array_equal(jaxrnn.step(layer, params, ((), ()), x, key=keys)[1], expected)


def test_keys_that_are_neither_one_nor_one_for_each_sequence_are_refused():
    keys = jax.random.split(jax.random.key(0), 4)
    with pytest.raises(ValueError, match=r"one random key, or keys of the shape \[\*batch\] = \(3,\).*shape is \(4,\)"):
        unroll(jaxrnn.Dropout(0.5), (), jnp.ones((8, 3, 2)), key=keys)
    with pytest.raises(ValueError, match=r"one random key, but its shape is \(4,\)"):
        unroll(jaxrnn.Dropout(0.5), (), jnp.ones((8, 2)), key=keys)
