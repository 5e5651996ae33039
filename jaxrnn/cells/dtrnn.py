"""Recurrent network with a deep transition."""

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


class DTRNNParams(NamedTuple):
    w_x: Array  # [input, hidden]
    w_h: Array  # [hidden, hidden]
    b: Array  # [hidden]
    w_u: Array  # [depth - 1, hidden, hidden], the layers above the first
    b_u: Array  # [depth - 1, hidden]


class DTRNNState(NamedTuple):
    h: Array  # [*batch, hidden]


@dataclass(frozen=True)
class DTRNN(Cell):
    r"""Deep transition network (DT-RNN): several layers between one state and the next.

    With a single layer it would be `Elman`. `DTSRNN` adds a shortcut past the layers, and `DOTRNN` a layer between the
    state and the output.

    .. math::
        a_t^{(1)} &= \phi(W x_t + U_1 h_{t-1} + b_1) \\
        a_t^{(l)} &= \phi(U_l a_t^{(l-1)} + b_l), \quad l = 2, \ldots, L \\
        h_t &= a_t^{(L)}

    The output is :math:`h_t`.

    Example:
      >>> cell = jaxrnn.DTRNN(hidden_size=32, depth=3)
      >>> params = cell.init(jax.random.key(0), input_size=8)
      >>> state, ys = jaxrnn.unroll(cell, params, jnp.zeros((20, 4, 8)))  # [time, batch, input]
      >>> ys.shape, params.w_u.shape  # two layers above the first
      ((20, 4, 32), (2, 32, 32))

    Args:
      hidden_size: Size of :math:`h` and of each layer.
      depth: :math:`L`, the number of layers; at least 2.
      activation: :math:`\phi`, an elementwise function such as `jnp.tanh` or `jax.nn.relu`.

    References:
      R. Pascanu, C. Gulcehre, K. Cho, Y. Bengio, "How to construct deep recurrent neural networks", 2014.

    Deviations:
      All layers have the same size.
    """

    hidden_size: int
    _: KW_ONLY
    depth: int = 2
    activation: Callable[[Array], Array] = tanh

    def __post_init__(self) -> None:
        check.positive(self, "hidden_size")
        check.at_least(self, "depth", 2)
        check.function(self, "activation")

    def init(self, key: Array, input_size: int) -> DTRNNParams:
        n = self.hidden_size
        k_x, *keys = jax.random.split(key, 1 + self.depth)
        w_h, *w_u = (orthogonal(k, (n, n)) for k in keys)
        w_x = glorot_uniform(k_x, (input_size, n))
        return DTRNNParams(w_x, w_h, jnp.zeros(n), jnp.stack(w_u), jnp.zeros((self.depth - 1, n)))

    def initial_state(self, params, batch_shape=(), dtype=None) -> DTRNNState:
        return DTRNNState(*zeros(params, batch_shape, dtype, self.hidden_size))

    def project(self, params: DTRNNParams, x: Array, key: Keys = None) -> Array:
        return affine(x, params.w_x, params.b)

    def step(self, params: DTRNNParams, state: DTRNNState, z: Array) -> DTRNNState:
        h = self.activation(z + state.h @ params.w_h)
        for n in range(self.depth - 1):
            h = self.activation(affine(h, params.w_u[n], params.b_u[n]))
        return DTRNNState(h=h)

    def readout(self, params: DTRNNParams, state: DTRNNState, z: Array) -> Array:
        return state.h
