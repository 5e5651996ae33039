"""Convolutional cells against those of Flax and Keras with the same weights: value and gradient."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from jaxrnn import ConvLSTM, unroll
from tests.support.comparisons import assert_close
from tests.support.inputs import draw, draw_params

pytestmark = pytest.mark.usefixtures("x64", "quick")
TIME, BATCH, HIDDEN, CHANNELS = 4, 3, 2, 3
SHAPES = {1: (5,), 2: (4, 3), 3: (2, 3, 2)}
over_dimensions = pytest.mark.parametrize("shape", SHAPES.values(), ids=[f"{n}-D" for n in SHAPES])


def value_and_gradients(run, params, xs):
    def loss(params, xs):
        ys = run(params, xs)
        return (ys * np.cos(np.arange(ys.size)).reshape(ys.shape)).sum(), ys

    return jax.jit(jax.grad(loss, argnums=(0, 1), has_aux=True))(params, xs)


@over_dimensions
def test_equals_flax(shape):
    cell = ConvLSTM(shape, HIDDEN, 3)
    module = nn.RNN(nn.ConvLSTMCell(HIDDEN, (3,) * len(shape), param_dtype=jnp.float64), time_major=True)

    def theirs(p, xs):
        """Their gates have the order i, g, f, o, and they add one to the forget gate at run time."""

        def order(w):
            i, f, g, o = jnp.split(w, 4, axis=-1)
            return jnp.concatenate([i, g, f, o], axis=-1)

        ih = {"kernel": order(p.w_x), "bias": order(p.b).at[2 * HIDDEN : 3 * HIDDEN].add(-1)}
        hh = {"kernel": order(p.w_h), "bias": jnp.zeros_like(p.b)}
        return module.apply({"params": {"cell": {"ih": ih, "hh": hh}}}, xs)

    params, xs = draw_params(cell, input_size=(*shape, CHANNELS)), draw(TIME, BATCH, *shape, CHANNELS)
    ours = value_and_gradients(lambda p, xs: unroll(cell, p, xs)[1], params, xs)
    assert_close(ours, value_and_gradients(theirs, params, xs), rtol=1e-9)


@pytest.mark.slow
@over_dimensions
def test_equals_keras(shape):
    """In float32, the only dtype in which Keras computes; its default sigmoid is no longer a hard one."""
    keras = pytest.importorskip("keras")
    cell = ConvLSTM(shape, HIDDEN, 3)
    kind = getattr(keras.layers, f"ConvLSTM{len(shape)}D")
    layer = kind(HIDDEN, 3, padding="same", return_sequences=True)
    layer.build((BATCH, TIME, *shape, CHANNELS))
    assert layer.cell.recurrent_activation is keras.activations.sigmoid

    def theirs(p, xs):
        fixed = [variable.value for variable in layer.non_trainable_variables]
        ys, _ = layer.stateless_call([p.w_x, p.w_h, p.b], fixed, xs.swapaxes(0, 1))
        return ys.swapaxes(0, 1)

    single = lambda tree: jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float32), tree)  # noqa: E731
    params = single(draw_params(cell, input_size=(*shape, CHANNELS)))
    xs = single(draw(TIME, BATCH, *shape, CHANNELS))
    ours = value_and_gradients(lambda p, xs: unroll(cell, p, xs)[1], params, xs)
    assert_close(ours, value_and_gradients(theirs, params, xs), rtol=2e-5)
