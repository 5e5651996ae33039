"""Independently recurrent network."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import KW_ONLY, dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array
from jax.nn import relu

from jaxrnn import _check as check
from jaxrnn.initializers import glorot_uniform
from jaxrnn.layer import Cell, Keys
from jaxrnn.ops import affine, align, zeros


class IndRNNParams(NamedTuple):
    w_x: Array  # [input, hidden]
    w_h: Array  # [hidden]
    b: Array  # [hidden]


class IndRNNState(NamedTuple):
    h: Array  # [*batch, hidden]


@dataclass(frozen=True)
class IndRNN(Cell):
    r"""Independently recurrent network: each unit reads only its own previous state.

    The recurrent weights are a vector, while those of `Elman` are a matrix. The units exchange information through the
    next layer, so the paper stacks several layers.

    .. math:: h_t = \phi(W x_t + u \odot h_{t-1} + b)

    The output is :math:`h_t`. The initial :math:`u` is uniform on :math:`[0, 1)`. The paper keeps :math:`|u|` below
    :math:`2^{1/T}`, for sequences of :math:`T` steps, by clipping it after each update.

    Example:
      >>> cell = jaxrnn.IndRNN(hidden_size=64)
      >>> params = cell.init(jax.random.key(0), input_size=8)
      >>> state, ys = jaxrnn.unroll(cell, params, jnp.zeros((20, 4, 8)))  # [time, batch, input]
      >>> ys.shape, params.w_h.shape
      ((20, 4, 64), (64,))
      >>> params = params._replace(w_h=jnp.clip(params.w_h, -(2 ** (1 / 20)), 2 ** (1 / 20)))  # after each update

    Args:
      hidden_size: Size of :math:`h`.
      activation: :math:`\phi`, an elementwise function such as `jax.nn.relu` or `jnp.tanh`.

    References:
      S. Li, W. Li, C. Cook, C. Zhu, Y. Gao, "Independently recurrent neural network (IndRNN): building a longer and
      deeper RNN", 2018.

    Deviations:
      The cell does not clip :math:`u`; the training loop does it if needed.
    """

    hidden_size: int
    _: KW_ONLY
    activation: Callable[[Array], Array] = relu

    def __post_init__(self) -> None:
        check.positive(self, "hidden_size")
        check.function(self, "activation")

    def init(self, key: Array, input_size: int) -> IndRNNParams:
        n = self.hidden_size
        k_x, k_h = jax.random.split(key)
        return IndRNNParams(glorot_uniform(k_x, (input_size, n)), jax.random.uniform(k_h, (n,)), jnp.zeros(n))

    def initial_state(self, params, batch_shape=(), dtype=None) -> IndRNNState:
        return IndRNNState(*zeros(params, batch_shape, dtype, self.hidden_size))

    def project(self, params: IndRNNParams, x: Array, key: Keys = None) -> Array:
        return affine(x, params.w_x, params.b)

    def step(self, params: IndRNNParams, state: IndRNNState, z: Array) -> IndRNNState:
        return IndRNNState(h=self.activation(z + align(params.w_h, z) * state.h))

    def readout(self, params: IndRNNParams, state: IndRNNState, z: Array) -> Array:
        return state.h
