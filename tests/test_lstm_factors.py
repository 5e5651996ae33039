"""Relatives of the LSTM and the vanilla network against these themselves, where they are one."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tables import assert_close, draw, draw_params, draw_state

import jaxrnn
from jaxrnn import unroll

pytestmark = pytest.mark.usefixtures("x64", "quick")
TIME, BATCH = 4, 2


def run(cell, params, xs, state):
    """Value and the gradient of the inputs, which all states reach."""

    def loss(xs):
        last, ys = unroll(cell, params, xs, state)
        return (ys**3).sum() + (last.c**2).sum(), (ys, last.h, last.c)

    return jax.value_and_grad(loss, has_aux=True)(xs)


def test_a_group_is_an_lstm_of_its_part():
    cell = jaxrnn.GroupLSTM(8, 2)
    params, xs = draw_params(cell, input_size=6), draw(TIME, BATCH, 6)
    state = draw_state(cell, params, (BATCH,))
    (_, whole), gradient = run(cell, params, xs, state)
    for k in range(2):
        of_k = jaxrnn.LSTMState(*(jnp.split(leaf, 2, axis=-1)[k] for leaf in state))
        part = run(jaxrnn.LSTM(4), jaxrnn.LSTMParams(*(leaf[k] for leaf in params)), xs[..., 3 * k : 3 * k + 3], of_k)
        parts_of_whole = [leaf[..., 4 * k : 4 * k + 4] for leaf in whole], gradient[..., 3 * k : 3 * k + 3]
        assert_close((part[0][1], part[1]), parts_of_whole)


def test_symbols_of_groups_equal_their_one_hot_vectors():
    cell, symbols = jaxrnn.GroupLSTM(4, 2), np.array([[0, 5], [3, 2], [1, 1]])
    params = draw_params(cell, input_size=6)
    assert_close(unroll(cell, params, symbols), unroll(cell, params, np.eye(6)[symbols]))


def test_an_input_of_another_size_than_that_of_the_groups():
    cell = jaxrnn.GroupLSTM(4, 2)
    with pytest.raises(
        ValueError, match=r"the input size of the parameters, 6, but .* \(4,\): call init with the size"
    ):
        unroll(cell, cell.init(jax.random.key(0), 6), np.zeros((3, 2, 4)))


def test_the_factors_are_those_of_an_lstms_matrix():
    cell = jaxrnn.FactorizedLSTM(4, 2)
    params, xs = draw_params(cell), draw(TIME, BATCH, 3)
    state = draw_state(cell, params, (BATCH,))
    product = jaxrnn.LSTMParams(params.w_x @ params.w_u, params.w_h @ params.w_u, params.b)
    assert np.linalg.matrix_rank(np.concatenate(product[:2])) == 2
    assert_close(run(cell, params, xs, state), run(jaxrnn.LSTM(4), product, xs, jaxrnn.LSTMState(*state)))


def test_one_step_up_the_grid_passes_memories_on():
    """Where every gate of depth keeps, the memory that the input brings arrives at the top as it is."""
    cell = jaxrnn.GridLSTM(4, 3)
    params, xs = draw_params(cell), draw(TIME, BATCH, 3)
    keep = jnp.repeat(jnp.array([0, 0, 0, 0, -60.0, 60, 60, 0]), 4)
    params = params._replace(b=tuple(keep for _ in params.b))
    _, ys = unroll(cell, params, xs)
    assert_close(ys, np.tanh(xs @ params.w_x[:, 4:]))


@pytest.mark.parametrize("kind", ["RNN", "LSTM"])
def test_without_its_product_multiplicative_integration_is_additive(kind):
    cell, plain = (jaxrnn.MIRNN(4), jaxrnn.Elman(4)) if kind == "RNN" else (jaxrnn.MILSTM(4), jaxrnn.LSTM(4))
    params, xs = draw_params(cell), draw(TIME, BATCH, 3)
    params = params._replace(alpha=0 * params.alpha)
    of_h, of_x = params.beta
    sums = plain.init(jax.random.key(0), 3)._replace(w_x=params.w_x * of_x, w_h=params.w_h * of_h, b=params.b)
    assert_close(unroll(cell, params, xs), unroll(plain, sums, xs))


def test_first_values_of_multiplicative_integration():
    params = jaxrnn.MILSTM(4, alpha=2, beta=1, forget_bias=3.0).init(jax.random.key(0), 3)
    assert (params.alpha == 2).all()
    assert (params.beta == 1).all()
    np.testing.assert_array_equal(params.b, np.repeat([0, 3, 0, 0], 4))
    params = jaxrnn.MIRNN(4, alpha=2, beta=1).init(jax.random.key(0), 3)
    assert (params.alpha == 2).all()
    assert (params.beta == 1).all()


def test_first_biases():
    key = jax.random.key(0)
    of_gates = np.repeat([0, 3, 0, 0], 2)
    np.testing.assert_array_equal(jaxrnn.GroupLSTM(4, 2, 3.0).init(key, 4).b, [of_gates, of_gates])
    np.testing.assert_array_equal(jaxrnn.FactorizedLSTM(2, 3, 3.0).init(key, 4).b, of_gates)
    for b in jaxrnn.GridLSTM(2, 2, 3.0).init(key, 4).b:
        np.testing.assert_array_equal(b, np.repeat([0, 3, 0, 0, 0, 1, 0, 0], 2))
    for b in jaxrnn.GatedFeedbackLSTM(2, 2, 3.0).init(key, 4).b:
        np.testing.assert_array_equal(b, of_gates)
    chrono = jaxrnn.GroupLSTM(4, 2, jaxrnn.Chrono(9.0)).init(key, 4).b
    np.testing.assert_array_equal(chrono[:, :2], -chrono[:, 2:4])
    assert (chrono[0] != chrono[1]).any()


def test_with_its_own_past_alone_gated_feedback_is_a_stack():
    cell, stack = jaxrnn.GatedFeedbackLSTM(4, 2), jaxrnn.Stack(jaxrnn.LSTM(4), jaxrnn.LSTM(4))
    params, xs = draw_params(cell), draw(TIME, BATCH, 3)
    first, last = (w_g[4 * j : 4 * j + 4] for j, w_g in enumerate(params.w_g))
    own = [jnp.concatenate([first, 0 * first]), jnp.concatenate([0 * last, last])]  # nothing comes from other layers
    params = params._replace(w_g=tuple(2 * w_g for w_g in own))
    params = params._replace(w_x=params.w_x.at[:, 16:].set(0), w_u=(params.w_u[0].at[:, 16:].set(0),))
    params = params._replace(w_s=tuple(0 * w_s for w_s in params.w_s))  # and of its own past a half, doubled above

    def lstm(w_x, j):
        i, f, o = jnp.split(params.w_h[j], 3, axis=-1)
        w_h = jnp.concatenate([i, f, (first, last)[j], o], axis=-1)
        return jaxrnn.LSTMParams(w_x[:, :16], w_h, params.b[j])

    of_stack = (lstm(params.w_x, 0), lstm(params.w_u[0], 1))
    assert_close(unroll(cell, params, xs)[1], unroll(stack, of_stack, xs)[1])
