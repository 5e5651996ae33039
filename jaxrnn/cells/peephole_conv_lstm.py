"""Convolutional long short-term memory with peepholes."""

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
from jaxrnn.ops import align, convolution, sigmoid, tanh, zeros


class PeepholeConvLSTMParams(NamedTuple):
    w_x: Array  # [*kernel, input, 4 * hidden], gates in the order i, f, g, o
    w_h: Array  # [*kernel, hidden, 4 * hidden]
    w_c: Array  # [3, *shape, hidden], the peepholes of i, f, o
    b: Array  # [4 * hidden]


class PeepholeConvLSTMState(NamedTuple):
    h: Array  # [*batch, *shape, hidden]
    c: Array  # [*batch, *shape, hidden]


class PeepholeConvLSTMGates(NamedTuple):
    i: Array  # [*batch, *shape, hidden], input gate
    f: Array  # forget gate
    g: Array  # candidate
    o: Array  # output gate


@dataclass(frozen=True)
class PeepholeConvLSTM(Cell):
    r"""Convolutional long short-term memory with peepholes, for sequences of images.

    The products of an LSTM are convolutions (written :math:`*`), with zeros around the images. The gates also see the
    memory cells, through peepholes with a weight for each place and channel. `ConvLSTM` has no peepholes.

    .. math::
        i_t &= \sigma(W_{xi} * X_t + W_{hi} * H_{t-1} + W_{ci} \odot C_{t-1} + b_i) \\
        f_t &= \sigma(W_{xf} * X_t + W_{hf} * H_{t-1} + W_{cf} \odot C_{t-1} + b_f) \\
        C_t &= f_t \odot C_{t-1} + i_t \odot \tanh(W_{xc} * X_t + W_{hc} * H_{t-1} + b_c) \\
        o_t &= \sigma(W_{xo} * X_t + W_{ho} * H_{t-1} + W_{co} \odot C_t + b_o) \\
        H_t &= o_t \odot \tanh(C_t)

    The output is :math:`H_t`. Inputs are [\*batch, \*shape, channels] and `init`'s `input_size` is (\*shape, channels).

    Example:
      >>> cell = jaxrnn.PeepholeConvLSTM(shape=(8, 8), hidden_size=4, kernel_shape=3)
      >>> params = cell.init(jax.random.key(0), input_size=(8, 8, 3))
      >>> state, ys = jaxrnn.unroll(cell, params, jnp.zeros((5, 2, 8, 8, 3)))  # [time, batch, *shape, channels]
      >>> ys.shape, params.w_c.shape
      ((5, 2, 8, 8, 4), (3, 8, 8, 4))

    Args:
      shape: Extent of the images, such as (28, 28), in one, two or three dimensions.
      hidden_size: Number of channels of :math:`H` and :math:`C`.
      kernel_shape: Extent of all kernels; one number applies to all dimensions.
      forget_bias: Initial value of :math:`b_f`: a number, or `Chrono(longest)`, which also sets :math:`b_i`.

    References:
      X. Shi, Z. Chen, H. Wang, D. Yeung, W. Wong, W. Woo, "Convolutional LSTM network: a machine learning approach for
      precipitation nowcasting", 2015. The paper does not give initial values: the kernels are initialized as in
      `ConvLSTM`, the peepholes as in `PeepholeLSTM`.
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

    def init(self, key: Array, input_size: Any) -> PeepholeConvLSTMParams:
        n, kernel = self.hidden_size, kernel_axes(self)
        k_x, k_h, k_c, k_b = jax.random.split(key, 4)
        w_x = gates(glorot_uniform, k_x, (*kernel, image_channels(self, input_size), n), 4)
        w_h = gates(delta_orthogonal, k_h, (*kernel, n, n), 4)
        w_c = 0.1 * jax.random.normal(k_c, (3, *self.shape, n))
        b_f, b_i = gate_biases(k_b, self.forget_bias, n)
        return PeepholeConvLSTMParams(w_x, w_h, w_c, jnp.concatenate([b_i, b_f, jnp.zeros(2 * n)]))

    def initial_state(self, params, batch_shape=(), dtype=None) -> PeepholeConvLSTMState:
        n = self.hidden_size
        return PeepholeConvLSTMState(*zeros(params, (*batch_shape, *self.shape), dtype, n, n))

    def project(self, params: PeepholeConvLSTMParams, x: Array, key: Keys = None) -> Array:
        check_images(self, x, params.w_x)
        return convolution(x, params.w_x, params.b)

    def gates(self, params: PeepholeConvLSTMParams, state: PeepholeConvLSTMState, z: Array) -> PeepholeConvLSTMGates:
        """Returns the gates and the candidate of a step, given the state before it."""
        return self._gates_and_memory(params, state, z)[0]

    def step(self, params: PeepholeConvLSTMParams, state: PeepholeConvLSTMState, z: Array) -> PeepholeConvLSTMState:
        (_, _, _, o), c = self._gates_and_memory(params, state, z)
        return PeepholeConvLSTMState(h=o * tanh(c), c=c)

    def readout(self, params: PeepholeConvLSTMParams, state: PeepholeConvLSTMState, z: Array) -> Array:
        return state.h

    def _gates_and_memory(
        self, params: PeepholeConvLSTMParams, state: PeepholeConvLSTMState, z: Array
    ) -> tuple[PeepholeConvLSTMGates, Array]:
        # The output gate reads the new memory.
        w_i, w_f, w_o = align(tuple(params.w_c), z)
        i, f, g, o = jnp.split(z + convolution(state.h, params.w_h), 4, axis=-1)
        i, f, g = sigmoid(i + w_i * state.c), sigmoid(f + w_f * state.c), tanh(g)
        c = f * state.c + i * g
        return PeepholeConvLSTMGates(i, f, g, sigmoid(o + w_o * c)), c
