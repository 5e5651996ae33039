"""The vanilla recurrent network."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from jaxrnn.initializers import glorot_uniform, orthogonal
from jaxrnn.layer import Cell, Keys
from jaxrnn.ops import affine, tanh, zeros


class ElmanParams(NamedTuple):
    w_x: Array  # [input, hidden]
    w_h: Array  # [hidden, hidden]
    b: Array  # [hidden]


class ElmanState(NamedTuple):
    h: Array  # [*batch, hidden]


@dataclass(frozen=True)
class Elman(Cell):
    r"""The vanilla recurrent network, Elman's simple recurrent network.

    .. math:: h_t = \phi(W x_t + R h_{t-1} + b)

    The output is :math:`h_t`. The IRNN of Le et al. (2015) is `Elman(n, jax.nn.relu)` with the parameters
    `params._replace(w_h=jaxrnn.initializers.identity()(key, (n, n)))`.

    Args:
      hidden_size: size of :math:`h`.
      activation: :math:`\phi`, elementwise, such as `jnp.tanh` or `jax.nn.relu`.

    References: J. Elman, "Finding structure in time", 1990. Deviations: tanh where the paper has the
    logistic function, and the gradient through time where it stops after one step. IRNN: Q. Le, N. Jaitly,
    G. Hinton, "A simple way to initialize recurrent networks of rectified linear units", 2015.
    """

    hidden_size: int
    activation: Callable[[Array], Array] = tanh

    def init(self, key: Array, input_size: int) -> ElmanParams:
        n = self.hidden_size
        k_x, k_h = jax.random.split(key)
        return ElmanParams(glorot_uniform(k_x, (input_size, n)), orthogonal(k_h, (n, n)), jnp.zeros(n))

    def initial_state(self, params, batch_shape=(), dtype=None) -> ElmanState:
        return ElmanState(*zeros(params, batch_shape, dtype, self.hidden_size))

    def project(self, params: ElmanParams, x: Array, key: Keys = None) -> Array:
        return affine(x, params.w_x, params.b)

    def step(self, params: ElmanParams, state: ElmanState, z: Array) -> ElmanState:
        return ElmanState(h=self.activation(z + state.h @ params.w_h))

    def readout(self, params: ElmanParams, state: ElmanState, z: Array) -> Array:
        return state.h
