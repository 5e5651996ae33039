"""Convolutions in a traced step: their cotangents, and what the loop saves."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import pytest
from jax.lax import ConvDimensionNumbers

import jaxrnn
from jaxrnn import ConvLSTM
from jaxrnn._tracing import TracedStep
from jaxrnn._tracing.convolution import is_plain, pull_images, pull_kernel
from jaxrnn.loops import Deferred
from tests.support.comparisons import assert_close
from tests.support.inputs import draw
from tests.support.loops import compare

pytestmark = pytest.mark.usefixtures("x64", "quick")
HIDDEN, CHANNELS = 2, 3
IMAGE = (4, 3)
SIZE = (*IMAGE, CHANNELS)
KEY = jax.random.key(0)
LSTM = ConvLSTM(IMAGE, HIDDEN, 3)


def plain(shape, **changes):
    d = len(shape)
    axes, channels_last = tuple(range(d)), (0, d + 1, *range(1, d + 1))
    numbers = ConvDimensionNumbers(channels_last, (d + 1, d, *axes), channels_last)
    ones = dict.fromkeys(("window_strides", "lhs_dilation", "rhs_dilation"), (1,) * d)
    groups = {"feature_group_count": 1, "batch_group_count": 1, "precision": None}
    return {"dimension_numbers": numbers, "padding": ((0, 0),) * d, **ones, **groups, **changes}


@dataclass(frozen=True)
class Depthwise(jaxrnn.Cell):
    """h = tanh(x + w * h), each channel by itself, channels first: no plain convolution."""

    num_feature_axes = 2

    def init(self, key, input_size):
        return jax.random.normal(key, (input_size[0], 1, 3))

    def initial_state(self, params, batch_shape=(), dtype=None):
        return jnp.zeros((*batch_shape, 2, 5), params.dtype if dtype is None else dtype)

    def project(self, params, x, key=None):
        return x

    def step(self, params, state, z):
        h = jax.lax.conv_general_dilated(state, params.astype(state.dtype), (1,), "SAME", feature_group_count=2)
        return jnp.tanh(z + h)

    def readout(self, params, state, z):
        return state


@pytest.mark.parametrize(
    ("shape", "kernel", "padding"),
    [
        ((5,), (3,), ((1, 1),)),
        ((6,), (4,), ((1, 2),)),
        ((4, 3), (3, 2), ((0, 0), (0, 0))),
        ((4, 3), (1, 2), ((3, 0), (0, 4))),  # more than the kernel reaches
        ((4, 5), (2, 2), ((-1, 0), (2, -2))),
        ((3, 2, 4), (3, 2, 3), ((1, 1), (0, 1), (1, 1))),
    ],
)
def test_cotangents_equal_those_of_jax(shape, kernel, padding):
    how = plain(shape, padding=padding)
    assert is_plain(how)
    images, w = draw(2, 3, *shape, 2), draw(*kernel, 2, 4)

    def run(images, w):
        return jax.lax.conv_general_dilated(
            images, w, how["window_strides"], padding, dimension_numbers=how["dimension_numbers"]
        )

    def steps(images, w):
        return jax.vmap(run, (0, None))(images, w)

    y, pull = jax.vjp(steps, images, w)
    ct = draw(*y.shape)
    ct_images, ct_w = pull(ct)
    assert_close(pull_kernel(how, images, ct, w), ct_w, rtol=1e-12)
    assert_close(jax.vmap(lambda ct: pull_images(how, ct, w, images[0]))(ct), ct_images, rtol=1e-12)


@pytest.mark.parametrize(
    "change",
    [
        {"window_strides": (1, 2)},
        {"rhs_dilation": (2, 1)},
        {"lhs_dilation": (1, 2)},
        {"feature_group_count": 2},
        {"dimension_numbers": ConvDimensionNumbers((0, 1, 2, 3), (0, 1, 2, 3), (0, 1, 2, 3))},
    ],
)
def test_other_convolutions_are_not_taken_for_plain(change):
    assert not is_plain(plain(IMAGE, **change))


def test_other_convolutions_run_in_the_loop():
    compare(Depthwise(), Deferred(), key=None, lengths=None, resets=None, reverse=False, input_size=(2, 5))


@pytest.mark.parametrize("batch_shape", [(), (6,), (6, 2)])
def test_the_loop_keeps_one_array_for_the_gates(batch_shape):
    """However many batch axes are made one for the convolution: neither its output nor the projected input beside."""
    params = LSTM.init(KEY, SIZE)
    state, z = LSTM.initial_state(params, batch_shape), LSTM.project(params, jnp.zeros((*batch_shape, *SIZE)))
    step = TracedStep(LSTM.step, params, state, z)
    _, saved = step.run(step.weights(params), state, z)
    assert [x.shape for x in saved] == [(*batch_shape, *IMAGE, 4 * HIDDEN)]
    assert not step.z_kept
