"""Convolutional long short-term memory without peepholes."""

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


class ConvLSTMParams(NamedTuple):
    w_x: Array  # [*kernel, input, 4 * hidden], gates in the order i, f, g, o
    w_h: Array  # [*kernel, hidden, 4 * hidden]
    b: Array  # [4 * hidden]


class ConvLSTMState(NamedTuple):
    h: Array  # [*batch, *shape, hidden]
    c: Array  # [*batch, *shape, hidden]


class ConvLSTMGates(NamedTuple):
    i: Array  # [*batch, *shape, hidden], input gate
    f: Array  # forget gate
    g: Array  # candidate
    o: Array  # output gate


@dataclass(frozen=True)
class ConvLSTM(Cell):
    r"""Long short-term memory for images, whose products are convolutions (written :math:`*`).

    It suits videos and other sequences of images. This is the variant of Flax's ConvLSTMCell and Keras's ConvLSTM2D.
    `PeepholeConvLSTM` has the peepholes of the paper.

    .. math::
        i_t &= \sigma(W_{xi} * X_t + W_{hi} * H_{t-1} + b_i) \\
        f_t &= \sigma(W_{xf} * X_t + W_{hf} * H_{t-1} + b_f) \\
        g_t &= \tanh(W_{xc} * X_t + W_{hc} * H_{t-1} + b_c) \\
        C_t &= f_t \odot C_{t-1} + i_t \odot g_t \\
        H_t &= o_t \odot \tanh(C_t), \quad o_t = \sigma(W_{xo} * X_t + W_{ho} * H_{t-1} + b_o)

    The output is :math:`H_t`. Inputs have shape [\*batch, \*shape, channels], and `init` takes the `input_size`
    (\*shape, channels). Images are padded with zeros.

    Example:
      >>> cell = jaxrnn.ConvLSTM(shape=(8, 8), hidden_size=4, kernel_shape=3)
      >>> params = cell.init(jax.random.key(0), input_size=(8, 8, 1))
      >>> state, ys = jaxrnn.unroll(cell, params, jnp.zeros((5, 2, 8, 8, 1)))  # [time, batch, *shape, channels]
      >>> ys.shape
      (5, 2, 8, 8, 4)

    Args:
      shape: Extent of the images in one, two or three dimensions, such as (28, 28).
      hidden_size: Number of channels of :math:`H` and :math:`C`.
      kernel_shape: Extent of all kernels: one number for each dimension, or a single number for all dimensions.
      forget_bias: Initial value of :math:`b_f`: a number, or `Chrono(longest)`, which also sets :math:`b_i`.

    References:
      X. Shi, Z. Chen, H. Wang, D. Yeung, W. Wong, W. Woo, "Convolutional LSTM network: a machine learning approach for
      precipitation nowcasting", 2015; L. Xiao, Y. Bahri, J. Sohl-Dickstein, S. Schoenholz, J. Pennington, "Dynamical
      isometry and a mean field theory of CNNs: how to train 10,000-layer vanilla convolutional neural networks", 2018,
      for the initial values of the recurrent kernels.

    Deviations:
      There are no peepholes. A recurrent kernel is initialized with an orthogonal matrix in its middle and zeros around
      it: like the recurrent matrix of `LSTM`, it preserves the norm of a state.
    """

    shape: tuple[int, ...]
    hidden_size: int
    kernel_shape: int | tuple[int, ...]
    _: KW_ONLY
    forget_bias: float | Chrono = 1.0

    def __post_init__(self) -> None:
        check_shapes(self)
        check.positive(self, "hidden_size")
        check.gate_bias(self, "forget_bias")

    @property
    def num_feature_axes(self) -> int:  # type: ignore[override]
        return len(self.shape) + 1

    def init(self, key: Array, input_size: Any) -> ConvLSTMParams:
        n, kernel = self.hidden_size, kernel_axes(self)
        k_x, k_h, k_b = jax.random.split(key, 3)
        w_x = gates(glorot_uniform, k_x, (*kernel, image_channels(self, input_size), n), 4)
        w_h = gates(delta_orthogonal, k_h, (*kernel, n, n), 4)
        b_f, b_i = gate_biases(k_b, self.forget_bias, n)
        return ConvLSTMParams(w_x, w_h, jnp.concatenate([b_i, b_f, jnp.zeros(2 * n)]))

    def initial_state(self, params, batch_shape=(), dtype=None) -> ConvLSTMState:
        return ConvLSTMState(*zeros(params, (*batch_shape, *self.shape), dtype, self.hidden_size, self.hidden_size))

    def project(self, params: ConvLSTMParams, x: Array, key: Keys = None) -> Array:
        check_images(self, x, params.w_x)
        return convolution(x, params.w_x, params.b)

    def gates(self, params: ConvLSTMParams, state: ConvLSTMState, z: Array) -> ConvLSTMGates:
        """Returns the gates and the candidate of a step, given the state before it."""
        i, f, g, o = jnp.split(z + convolution(state.h, params.w_h), 4, axis=-1)
        return ConvLSTMGates(sigmoid(i), sigmoid(f), tanh(g), sigmoid(o))

    def step(self, params: ConvLSTMParams, state: ConvLSTMState, z: Array) -> ConvLSTMState:
        i, f, g, o = self.gates(params, state, z)
        c = f * state.c + i * g
        return ConvLSTMState(h=o * tanh(c), c=c)

    def readout(self, params: ConvLSTMParams, state: ConvLSTMState, z: Array) -> Array:
        return state.h
