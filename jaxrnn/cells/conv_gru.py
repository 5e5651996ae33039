"""Convolutional gated recurrent unit."""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from jaxrnn import _check as check
from jaxrnn.cells._images import check_images, check_shapes, image_channels, kernel_axes
from jaxrnn.initializers import Chrono, delta_orthogonal, gate_biases, gates, glorot_uniform
from jaxrnn.layer import Cell, Keys
from jaxrnn.ops import convolution, sigmoid, tanh, zeros


class ConvGRUParams(NamedTuple):
    w_x: Array  # [*kernel, input, 3 * hidden], gates in the order z, r, a
    w_h: Array  # [*kernel, hidden, 2 * hidden], gates in the order z, r
    w_a: Array  # [*kernel, hidden, hidden], for the candidate
    b: Array  # [3 * hidden]


class ConvGRUState(NamedTuple):
    h: Array  # [*batch, *shape, hidden]


class ConvGRUGates(NamedTuple):
    z: Array  # [*batch, *shape, hidden], update gate
    r: Array  # reset gate
    a: Array  # candidate


@dataclass(frozen=True)
class ConvGRU(Cell):
    r"""Gated recurrent unit for images, whose products are convolutions (written :math:`*`).

    It suits videos and other sequences of images. The reset gate is applied before the convolution, as in
    `ResetBeforeGRU`. `ConvLSTM` is the convolutional LSTM.

    .. math::
        z_t &= \sigma(W_z * x_t + U_z * h_{t-1} + b_z) \\
        r_t &= \sigma(W_r * x_t + U_r * h_{t-1} + b_r) \\
        \tilde h_t &= \tanh(W * x_t + U * (r_t \odot h_{t-1}) + b) \\
        h_t &= (1 - z_t) \odot h_{t-1} + z_t \odot \tilde h_t

    The output is :math:`h_t`. Inputs have shape [\*batch, \*shape, channels], and `init` takes the `input_size`
    (\*shape, channels). Images are padded with zeros.

    Example:
      >>> cell = jaxrnn.ConvGRU(shape=(8, 8), hidden_size=4, kernel_shape=3)
      >>> params = cell.init(jax.random.key(0), input_size=(8, 8, 1))
      >>> state, ys = jaxrnn.unroll(cell, params, jnp.zeros((5, 2, 8, 8, 1)))  # [time, batch, *shape, channels]
      >>> ys.shape
      (5, 2, 8, 8, 4)

    Args:
      shape: Extent of the images in one, two or three dimensions, such as (28, 28).
      hidden_size: Number of channels of :math:`h`.
      kernel_shape: Extent of all kernels: one number for each dimension, or a single number for all dimensions.
      keep_bias: Initial value of :math:`-b_z`: a number, or `Chrono(longest)`. Above zero the state lasts longer.

    References:
      N. Ballas, L. Yao, C. Pal, A. Courville, "Delving deeper into convolutional networks for learning video
      representations", 2016.

    Deviations:
      The biases are added. The kernels are initialized as in `ConvLSTM`.
    """

    shape: tuple[int, ...]
    hidden_size: int
    kernel_shape: int | tuple[int, ...]
    _: KW_ONLY
    keep_bias: float | Chrono = 0.0

    def __post_init__(self) -> None:
        check_shapes(self)
        check.positive(self, "hidden_size")
        check.gate_bias(self, "keep_bias")

    @property
    def num_feature_axes(self) -> int:  # type: ignore[override]
        return len(self.shape) + 1

    def init(self, key: Array, input_size: Any) -> ConvGRUParams:
        n, kernel = self.hidden_size, kernel_axes(self)
        k_x, k_h, k_a, k_b = jax.random.split(key, 4)
        w_x = gates(glorot_uniform, k_x, (*kernel, image_channels(self, input_size), n), 3)
        w_h = gates(delta_orthogonal, k_h, (*kernel, n, n), 2)
        w_a = delta_orthogonal(k_a, (*kernel, n, n))
        b_keep, _ = gate_biases(k_b, self.keep_bias, n)
        return ConvGRUParams(w_x, w_h, w_a, jnp.concatenate([-b_keep, jnp.zeros(2 * n)]))

    def initial_state(self, params, batch_shape=(), dtype=None) -> ConvGRUState:
        return ConvGRUState(*zeros(params, (*batch_shape, *self.shape), dtype, self.hidden_size))

    def project(self, params: ConvGRUParams, x: Array, key: Keys = None) -> Array:
        check_images(self, x, params.w_x)
        return convolution(x, params.w_x, params.b)

    def gates(self, params: ConvGRUParams, state: ConvGRUState, z: Array) -> ConvGRUGates:
        """Returns the gates and the candidate of a step, given the state before it."""
        n = self.hidden_size
        update, r = jnp.split(sigmoid(z[..., : 2 * n] + convolution(state.h, params.w_h)), 2, axis=-1)
        return ConvGRUGates(update, r, tanh(z[..., 2 * n :] + convolution(r * state.h, params.w_a)))

    def step(self, params: ConvGRUParams, state: ConvGRUState, z: Array) -> ConvGRUState:
        update, _, a = self.gates(params, state, z)
        return ConvGRUState(h=(1 - update) * state.h + update * a)

    def readout(self, params: ConvGRUParams, state: ConvGRUState, z: Array) -> Array:
        return state.h
