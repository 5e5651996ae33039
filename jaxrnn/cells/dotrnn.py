"""Recurrent network with a deep transition and a deep output."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import KW_ONLY, dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from jaxrnn import _check as check
from jaxrnn.initializers import glorot_uniform, orthogonal
from jaxrnn.layer import Cell, Keys
from jaxrnn.ops import affine, tanh, zeros


class DOTRNNParams(NamedTuple):
    w_x: Array  # [input, hidden]
    w_h: Array  # [hidden, hidden]
    b: Array  # [hidden]
    w_u: Array  # [depth - 1, hidden, hidden], the layers above the first
    b_u: Array  # [depth - 1, hidden]
    w_y: Array  # [hidden, output]
    b_y: Array  # [output]


class DOTRNNState(NamedTuple):
    h: Array  # [*batch, hidden]


@dataclass(frozen=True)
class DOTRNN(Cell):
    r"""Deep output, deep transition network (DOT-RNN): several layers between states, one before the output.

    `DTRNN` has the same transition, and its output is the state.

    .. math::
        a_t^{(1)} &= \phi(W x_t + U_1 h_{t-1} + b_1) \\
        a_t^{(l)} &= \phi(U_l a_t^{(l-1)} + b_l), \quad l = 2, \ldots, L \\
        h_t &= a_t^{(L)} \\
        y_t &= \psi(V h_t + b_y)

    The output is :math:`y_t`, the intermediate layer. The last layer of the paper is a `Dense` layer after it.

    Example:
      >>> cell = jaxrnn.DOTRNN(hidden_size=32, output_size=16)
      >>> params = cell.init(jax.random.key(0), input_size=8)
      >>> state, ys = jaxrnn.unroll(cell, params, jnp.zeros((20, 4, 8)))  # [time, batch, input]
      >>> ys.shape, state.h.shape
      ((20, 4, 16), (4, 32))

    Args:
      hidden_size: Size of :math:`h` and of each layer of the transition.
      output_size: Size of :math:`y`.
      depth: :math:`L`, the number of layers of the transition; at least 2.
      activation: :math:`\phi`, an elementwise function such as `jnp.tanh` or `jax.nn.relu`.
      output_activation: :math:`\psi`, an elementwise function.

    References:
      R. Pascanu, C. Gulcehre, K. Cho, Y. Bengio, "How to construct deep recurrent neural networks", 2014.

    Deviations:
      All layers of the transition have the same size.
    """

    hidden_size: int
    output_size: int
    _: KW_ONLY
    depth: int = 2
    activation: Callable[[Array], Array] = tanh
    output_activation: Callable[[Array], Array] = tanh

    def __post_init__(self) -> None:
        check.positive(self, "hidden_size", "output_size")
        check.at_least(self, "depth", 2)
        check.function(self, "activation", "output_activation")

    def init(self, key: Array, input_size: int) -> DOTRNNParams:
        n = self.hidden_size
        k_x, k_y, *keys = jax.random.split(key, 2 + self.depth)
        w_h, *w_u = (orthogonal(k, (n, n)) for k in keys)
        w_x = glorot_uniform(k_x, (input_size, n))
        w_y = glorot_uniform(k_y, (n, self.output_size))
        b_u, b_y = jnp.zeros((self.depth - 1, n)), jnp.zeros(self.output_size)
        return DOTRNNParams(w_x, w_h, jnp.zeros(n), jnp.stack(w_u), b_u, w_y, b_y)

    def initial_state(self, params, batch_shape=(), dtype=None) -> DOTRNNState:
        return DOTRNNState(*zeros(params, batch_shape, dtype, self.hidden_size))

    def project(self, params: DOTRNNParams, x: Array, key: Keys = None) -> Array:
        return affine(x, params.w_x, params.b)

    def step(self, params: DOTRNNParams, state: DOTRNNState, z: Array) -> DOTRNNState:
        h = self.activation(z + state.h @ params.w_h)
        for n in range(self.depth - 1):
            h = self.activation(affine(h, params.w_u[n], params.b_u[n]))
        return DOTRNNState(h=h)

    def readout(self, params: DOTRNNParams, state: DOTRNNState, z: Array) -> Array:
        return self.output_activation(affine(state.h, params.w_y, params.b_y))
