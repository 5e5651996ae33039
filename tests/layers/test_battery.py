"""What every layer must satisfy, from the `EXAMPLE` of each file in tests/layers; wrappers and a few cells, too."""

import copy
import pickle
from functools import partial

import jax
import numpy as np
import pytest

import jaxrnn
from jaxrnn import unroll
from tests.support.cases import examples, selected_layers
from tests.support.comparisons import assert_close
from tests.support.inputs import INPUT, draw, draw_params, draw_state
from tests.support.tiers import slow, slow_but

pytestmark = pytest.mark.usefixtures("x64", "quick")
ALL = selected_layers()
TIME, BATCH = 5, 3

IN_DEFAULT_TIER = ("LSTM", "LearnedInitialState", "Zoneout", *examples())
RANDOM = ("Dropout", "Zoneout", "RecurrentDropout")

over_layers = pytest.mark.parametrize("name", slow_but(ALL, IN_DEFAULT_TIER))
CAUSAL = [name for name, layer in ALL.items() if layer.causal]
NO_RESETS = ("Sliced",)  # does not accept them: test_sliced.py


run = jax.jit(unroll, static_argnums=0, static_argnames="reverse")


@partial(jax.jit, static_argnums=0, static_argnames="reverse")
def run_with_gradients(layer, params, xs, state, **how):
    def loss(params, xs, state):
        last, ys = unroll(layer, params, xs, state, **how)
        return (ys**2).sum() + sum((leaf**3).sum() for leaf in jax.tree.leaves(last)), (last, ys)

    return jax.value_and_grad(loss, argnums=(0, 1, 2), has_aux=True)(params, xs, state)


KEYED = [(name, keyed) for name in ALL for keyed in (False, True)]


@pytest.mark.parametrize(
    ("name", "keyed"), slow_but(KEYED, [(name, name in RANDOM) for name in IN_DEFAULT_TIER]), ids=str
)
def test_padding_values_do_not_matter(name, keyed):
    layer = ALL[name]
    params = draw_params(layer)
    state = draw_state(layer, params, (BATCH,))
    xs, resets, lengths = draw(TIME, BATCH, INPUT), draw(TIME, BATCH) > 0.5, np.array([2, 5, 0])
    how = {"lengths": lengths, "key": jax.random.key(0) if keyed else None}
    how |= {} if name in NO_RESETS else {"resets": resets.copy()}
    one = run_with_gradients(layer, params, xs, state, **how)
    xs[2:, 0], xs[0, 2], xs[1:, 2] = np.nan, np.inf, -np.inf
    resets[2:, 0] ^= True
    resets[:, 2] ^= True
    how |= {} if name in NO_RESETS else {"resets": resets}
    other = run_with_gradients(layer, params, xs, state, **how)
    jax.tree.map(np.testing.assert_array_equal, one, other)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(other))
    (_, (_, ys)), (_, grad_xs, _) = other
    for array in (ys, grad_xs):
        assert not array[2:, 0].any()
        assert not array[:, 2].any()
        assert array[:2, 0].any()


@pytest.mark.parametrize("reverse", [slow(False), True], ids=["forward", "reverse"])
@over_layers
def test_a_padded_batch_equals_its_sequences_alone(name, reverse):
    layer = ALL[name]
    params, xs, lengths = draw_params(layer), draw(TIME, BATCH, INPUT), np.array([2, 5, 0])
    last, ys = run(layer, params, xs, lengths=lengths, reverse=reverse)
    for n, length in enumerate(lengths):
        alone_last, alone_ys = run(layer, params, xs[:length, n], reverse=reverse)
        assert_close(ys[:length, n], alone_ys)
        assert_close(jax.tree.map(lambda leaf, n=n: leaf[n], last), alone_last)


@pytest.mark.parametrize("name", slow_but([name for name in ALL if name not in NO_RESETS], IN_DEFAULT_TIER))
def test_packed_sequences_equal_sequences_alone(name):
    """Also for a layer that reads both ways: no sequence sees another."""
    layer = ALL[name]
    params, xs = draw_params(layer), draw(TIME, 2, INPUT)
    resets = np.zeros((TIME, 2), bool)
    resets[[0, 2], 0] = True
    resets[[3, 4], 1] = True
    _, ys = run(layer, params, xs, resets=resets)
    for n, (begin, end) in [(0, (0, 2)), (0, (2, 5)), (1, (0, 3)), (1, (3, 4)), (1, (4, 5))]:
        assert_close(ys[begin:end, n], run(layer, params, xs[begin:end, n])[1])


@over_layers
def test_leading_axes_are_batches(name):
    layer = ALL[name]
    params, xs = draw_params(layer), draw(TIME, 2, 3, INPUT)
    last, ys = run(layer, params, xs)
    mapped = jax.vmap(partial(unroll, layer, params), in_axes=1, out_axes=(0, 1))
    assert_close((last, ys), mapped(xs))
    one_last, one_ys = run(layer, params, xs[:, 1, 2])
    assert_close(ys[:, 1, 2], one_ys)
    assert_close(jax.tree.map(lambda leaf: leaf[1, 2], last), one_last)
    shapes = [leaf.shape for leaf in jax.tree.leaves(last)]
    assert shapes == [leaf.shape for leaf in jax.tree.leaves(layer.initial_state(params, (2, 3)))]


@pytest.mark.parametrize("name", slow_but(CAUSAL, IN_DEFAULT_TIER))
def test_step_equals_unroll(name):
    layer = ALL[name]
    params, xs = draw_params(layer), draw(TIME, BATCH, INPUT)
    state = draw_state(layer, params, (BATCH,))
    last, ys = run(layer, params, xs, state)
    for x, y in zip(xs, ys, strict=True):
        state, now = jaxrnn.step(layer, params, state, x)
        assert_close(now, y)
    assert_close(state, last)


def test_only_bidirectional_reads_the_future():
    assert set(ALL) - set(CAUSAL) == {"Bidirectional", "Reversed", "Sliced"}
    assert not jaxrnn.Stack(jaxrnn.LSTM(3), jaxrnn.Residual(jaxrnn.Bidirectional(jaxrnn.LSTM(2)))).causal


@over_layers
def test_randomness_comes_from_the_key_alone(name):
    layer = ALL[name]
    params, xs = draw_params(layer), draw(TIME, BATCH, INPUT)
    calm, same_calm = run(layer, params, xs), run(layer, params, xs)
    jax.tree.map(np.testing.assert_array_equal, calm, same_calm)
    one, same, other = (run(layer, params, xs, key=jax.random.key(seed)) for seed in (1, 1, 2))
    jax.tree.map(np.testing.assert_array_equal, one, same)
    changed = bool((one[1] != other[1]).any())
    assert changed == (name in RANDOM)
    if not changed:
        assert_close(one, calm)
    raw = run(layer, params, xs, key=jax.random.PRNGKey(1))
    jax.tree.map(np.testing.assert_array_equal, one, raw)


@over_layers
def test_a_layer_is_a_value(name):
    layer = ALL[name]
    for other in (pickle.loads(pickle.dumps(layer)), copy.copy(layer), copy.deepcopy(layer)):
        assert other == layer
        assert hash(other) == hash(layer)
        assert repr(other) == repr(layer)
    assert repr(layer).startswith(name + "(")
    assert "object at" not in repr(layer)
    assert not any(isinstance(value, jax.Array | np.ndarray) for value in vars(layer).values())
    assert sum(layer == other for other in ALL.values()) == 1


@over_layers
def test_dtypes_follow_inputs_and_parameters(name):
    layer = ALL[name]
    params = jax.tree.map(lambda leaf: leaf.astype("bfloat16"), draw_params(layer))
    for dtype, expected in [("bfloat16", "bfloat16"), ("float32", "float32")]:
        xs = jax.ShapeDtypeStruct((TIME, BATCH, INPUT), dtype)
        state = layer.initial_state(params, (BATCH,), "float32")
        last, ys = jax.eval_shape(partial(unroll, layer), params, xs, state)
        assert ys.dtype == expected
        assert {leaf.dtype for leaf in jax.tree.leaves(last)} <= {np.dtype("float32")}
