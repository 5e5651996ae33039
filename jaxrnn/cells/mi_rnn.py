"""The vanilla network with multiplicative integration."""

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


class MIRNNParams(NamedTuple):
    w_x: Array  # [input, hidden]
    w_h: Array  # [hidden, hidden]
    alpha: Array  # [hidden], of the product of both
    beta: Array  # [2, hidden], of that with the state, of that with the input
    b: Array  # [hidden]


class MIRNNState(NamedTuple):
    h: Array  # [*batch, hidden]


@dataclass(frozen=True)
class MIRNN(Cell):
    r"""Vanilla network with multiplicative integration: what comes from the input also scales what comes from the past.

    .. math:: h_t = \phi(\alpha \odot W x_t \odot U h_{t-1} + \beta_1 \odot U h_{t-1} + \beta_2 \odot W x_t + b)

    The output is :math:`h_t`. With :math:`\alpha = 0` it is the vanilla network.

    Args:
      hidden_size: size of :math:`h`.
      alpha: initial value of :math:`\alpha`.
      beta: initial value of :math:`\beta_1` and :math:`\beta_2`.
      activation: :math:`\phi`, elementwise, such as `jnp.tanh` or `jax.nn.relu`.

    References: Y. Wu, S. Zhang, Y. Zhang, Y. Bengio, R. Salakhutdinov, "On multiplicative integration with recurrent
    neural networks", 2016, the general form.
    """

    hidden_size: int
    alpha: float = 1.0
    beta: float = 0.5
    activation: Callable[[Array], Array] = tanh

    def init(self, key: Array, input_size: int) -> MIRNNParams:
        n = self.hidden_size
        k_x, k_h = jax.random.split(key)
        w_x, w_h = glorot_uniform(k_x, (input_size, n)), orthogonal(k_h, (n, n))
        return MIRNNParams(w_x, w_h, jnp.full(n, float(self.alpha)), jnp.full((2, n), float(self.beta)), jnp.zeros(n))

    def initial_state(self, params, batch_shape=(), dtype=None) -> MIRNNState:
        return MIRNNState(*zeros(params, batch_shape, dtype, self.hidden_size))

    def project(self, params: MIRNNParams, x: Array, key: Keys = None) -> tuple[Array, Array]:
        z = affine(x, params.w_x)
        return params.alpha * z + params.beta[0], params.beta[1] * z + params.b

    def step(self, params: MIRNNParams, state: MIRNNState, z: tuple[Array, Array]) -> MIRNNState:
        slope, offset = z
        return MIRNNState(h=self.activation(slope * (state.h @ params.w_h) + offset))

    def readout(self, params: MIRNNParams, state: MIRNNState, z: tuple[Array, Array]) -> Array:
        return state.h
