"""`generate`, against single steps written out."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxrnn
from jaxrnn import GRU, LSTM, Dense, Stack, Window, generate
from tests.support.comparisons import assert_close
from tests.support.inputs import draw, draw_params, draw_state

pytestmark = pytest.mark.usefixtures("x64", "quick")
SYMBOLS, FEATURES, END, STEPS = 7, 3, 4, 8
MODEL = Stack(LSTM(5), Dense(SYMBOLS))
FORECASTER = Stack(Window(2), GRU(4), Dense(FEATURES))
PROMPT = np.random.default_rng(0).integers(0, SYMBOLS, (4, 6))
take_step = jax.jit(jaxrnn.step, static_argnums=0)


def best(logits):
    return logits.argmax(-1)


def sample(logits, key):
    return jax.random.categorical(key, 2 * logits)


def is_end(x):
    return x == END


def alone(layer, params, prompt, feed, steps, stop=None, state=None):
    """Generates one sequence, one call of `step` for each input."""
    state = layer.initial_state(params) if state is None else state
    for x in prompt[:-1]:
        state, _ = take_step(layer, params, state, x)
    xs, ys, x = [], [], prompt[-1]
    for n in range(steps):
        state, y = take_step(layer, params, state, x)
        x = feed(y, n)
        xs.append(x)
        ys.append(y)
        if stop is not None and stop(x):
            break
    return np.stack(xs), np.stack(ys), state


@pytest.fixture(scope="module")
def params():
    with jax.enable_x64(True):
        return jax.tree.map(lambda leaf: 3 * leaf, draw_params(MODEL, input_size=SYMBOLS))


def padded(xs, steps=STEPS):
    return np.concatenate([xs, np.zeros((steps - len(xs), *xs.shape[1:]), xs.dtype)])


def compare(out, n, expected):
    xs, ys, state = expected
    np.testing.assert_array_equal(out.xs[:, n], padded(xs))
    assert_close(out.ys[:, n], padded(ys))
    assert out.lengths[n] == len(xs)
    assert_close(jax.tree.map(lambda leaf: leaf[n], out.state), state)


def test_greedy_decoding_with_a_stop_condition(params):
    out = jax.jit(lambda params: generate(MODEL, params, PROMPT, steps=STEPS, feed=best, stop=is_end))(params)
    for n in range(6):
        compare(out, n, alone(MODEL, params, PROMPT[:, n], lambda y, _: best(y), STEPS, is_end))
    assert len(set(out.lengths.tolist())) > 2
    assert out.lengths.min() < STEPS


def test_prompts_of_different_lengths(params):
    lengths = np.array([1, 4, 2, 3, 4, 1])
    state = draw_state(MODEL, params, (6,))
    out = jax.jit(partial(generate, MODEL, steps=STEPS, feed=best, stop=is_end))(params, PROMPT, state, lengths=lengths)
    for n, length in enumerate(lengths):
        first = jax.tree.map(lambda leaf, n=n: leaf[n], state)
        compare(out, n, alone(MODEL, params, PROMPT[:length, n], lambda y, _: best(y), STEPS, is_end, first))


def test_sampling_takes_one_key_for_each_input(params):
    key = jax.random.key(5)
    out = jax.jit(partial(generate, MODEL, steps=STEPS, feed=sample))(params, PROMPT[:, 0], key=key)
    keys = jax.random.split(key, STEPS)
    xs, ys, state = alone(MODEL, params, PROMPT[:, 0], lambda y, n: sample(y, keys[n]), STEPS)
    np.testing.assert_array_equal(out.xs, xs)
    assert_close((out.ys, out.state), (ys, state))
    assert out.lengths == STEPS


def test_a_forecast_reads_its_predictions_and_can_be_differentiated():
    params, history = draw_params(FORECASTER), draw(5, 2, 1, FEATURES)

    def forecast(history):
        return generate(FORECASTER, params, history, steps=4).xs

    def by_hand(history):
        state, ys = jaxrnn.unroll(FORECASTER, params, history)
        xs = [ys[-1]]
        for _ in range(3):
            state, y = jaxrnn.step(FORECASTER, params, state, xs[-1])
            xs.append(y)
        return jnp.stack(xs)

    one, other = (jax.jit(jax.value_and_grad(lambda x, f=f: (f(x) ** 2).sum()))(history) for f in (forecast, by_hand))
    assert_close(one, other)
    assert (one[1] != 0).any(axis=(1, 2, 3)).all()
    with_stop = generate(FORECASTER, params, history, steps=4, stop=lambda x: x[..., 0] > 1e9)
    assert_close(with_stop.xs, by_hand(history))
    gradient = jax.grad(
        lambda x: (generate(FORECASTER, params, x, steps=4, stop=lambda x: x[..., 0] > 1e9).xs ** 2).sum()
    )
    assert_close(gradient(history), other[1])


def test_generating_in_parts_is_generating_at_once(params):
    run = jax.jit(partial(generate, MODEL, feed=best), static_argnames="steps")
    whole = run(params, PROMPT, steps=STEPS)
    first = run(params, PROMPT, steps=3)
    second = run(params, first.xs[-1:], first.state, steps=STEPS - 3)
    np.testing.assert_array_equal(whole.xs, np.concatenate([first.xs, second.xs]))
    assert_close((whole.ys, whole.state), (np.concatenate([first.ys, second.ys]), second.state))


def test_steps_after_all_sequences_have_ended_do_not_run(params):
    calls = []

    def feed(y):
        jax.debug.callback(lambda: calls.append(1))
        return jnp.full(y.shape[:-1], END)

    out = generate(MODEL, params, PROMPT, steps=50, feed=feed, stop=is_end)
    jax.effects_barrier()
    assert len(calls) == 1
    assert out.lengths.tolist() == [1] * 6
    assert out.xs.tolist() == [[END] * 6] + [[0] * 6] * 49


def test_under_vmap(params):
    run = jax.vmap(lambda prompt: generate(MODEL, params, prompt, steps=STEPS, feed=best, stop=is_end)[:2], 1, 1)
    assert_close(run(PROMPT), generate(MODEL, params, PROMPT, steps=STEPS, feed=best, stop=is_end)[:2])


@pytest.mark.parametrize("stop", [None, lambda x: x[..., 0] > 9], ids=["steps", "stop"])
@pytest.mark.parametrize("feed", [lambda y: y.astype(jnp.bfloat16), lambda y: jnp.where(y > 0, 1.0, -1.0)])
def test_inputs_keep_the_dtype_that_feed_returns_and_outputs_that_of_the_prompt(feed, stop):
    layer = Stack(jaxrnn.Elman(4), jaxrnn.Dense(3))
    params = jax.tree.map(lambda p: jnp.asarray(p, jnp.bfloat16), draw_params(layer))
    prompt = jnp.asarray(draw(2, 4, FEATURES), jnp.float32)
    out = jaxrnn.generate(layer, params, prompt, steps=3, feed=feed, stop=stop)
    _, ys = jaxrnn.unroll(layer, params, jnp.concatenate([prompt, out.xs.astype(jnp.float32)]))
    assert out.ys.dtype == ys.dtype == jnp.float32
    assert out.xs.dtype == feed(ys).dtype
    np.testing.assert_allclose(out.ys, ys[1:4], rtol=0.05, atol=0.02)
