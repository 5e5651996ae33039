"""Recurrent network with a deep transition and shortcuts."""

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


class DTSRNNParams(NamedTuple):
    w_x: Array  # [input, hidden]
    w_h: Array  # [hidden, hidden]
    b: Array  # [hidden]
    w_u: Array  # [depth - 1, hidden, hidden], the layers above the first
    b_u: Array  # [depth - 1, hidden]
    w_s: Array  # [hidden, hidden], the shortcut


class DTSRNNState(NamedTuple):
    h: Array  # [*batch, hidden]


@dataclass(frozen=True)
class DTSRNN(Cell):
    r"""Deep transition network with shortcuts (DT(S)-RNN): several layers and a connection past them.

    `DTRNN` has no shortcut.

    .. math::
        a_t^{(1)} &= \phi(W x_t + U_1 h_{t-1} + b_1) \\
        a_t^{(l)} &= \phi(U_l a_t^{(l-1)} + b_l), \quad l = 2, \ldots, L - 1 \\
        h_t &= \phi(U_L a_t^{(L-1)} + S h_{t-1} + b_L)

    The output is :math:`h_t`.

    Example:
      >>> cell = jaxrnn.DTSRNN(hidden_size=32, depth=3)
      >>> params = cell.init(jax.random.key(0), input_size=8)
      >>> state, ys = jaxrnn.unroll(cell, params, jnp.zeros((20, 4, 8)))  # [time, batch, input]
      >>> ys.shape, params.w_s.shape  # the shortcut from state to state
      ((20, 4, 32), (32, 32))

    Args:
      hidden_size: Size of :math:`h` and of each layer.
      depth: :math:`L`, the number of layers; at least 2.
      activation: :math:`\phi`, an elementwise function such as `jnp.tanh` or `jax.nn.relu`.

    References:
      R. Pascanu, C. Gulcehre, K. Cho, Y. Bengio, "How to construct deep recurrent neural networks", 2014.

    Deviations:
      The paper draws the shortcut and gives no equation; here it is a matrix whose product with the state is added in
      the last layer. All layers have the same size.
    """

    hidden_size: int
    _: KW_ONLY
    depth: int = 2
    activation: Callable[[Array], Array] = tanh

    def __post_init__(self) -> None:
        check.positive(self, "hidden_size")
        check.at_least(self, "depth", 2)
        check.function(self, "activation")

    def init(self, key: Array, input_size: int) -> DTSRNNParams:
        n = self.hidden_size
        k_x, *keys = jax.random.split(key, 2 + self.depth)
        w_s, w_h, *w_u = (orthogonal(k, (n, n)) for k in keys)
        w_x = glorot_uniform(k_x, (input_size, n))
        return DTSRNNParams(w_x, w_h, jnp.zeros(n), jnp.stack(w_u), jnp.zeros((self.depth - 1, n)), w_s)

    def initial_state(self, params, batch_shape=(), dtype=None) -> DTSRNNState:
        return DTSRNNState(*zeros(params, batch_shape, dtype, self.hidden_size))

    def project(self, params: DTSRNNParams, x: Array, key: Keys = None) -> Array:
        return affine(x, params.w_x, params.b)

    def step(self, params: DTSRNNParams, state: DTSRNNState, z: Array) -> DTSRNNState:
        h = self.activation(z + state.h @ params.w_h)
        for n in range(self.depth - 2):
            h = self.activation(affine(h, params.w_u[n], params.b_u[n]))
        return DTSRNNState(h=self.activation(h @ params.w_u[-1] + affine(state.h, params.w_s, params.b_u[-1])))

    def readout(self, params: DTSRNNParams, state: DTSRNNState, z: Array) -> Array:
        return state.h
