"""Elman network with multiplicative integration."""

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
from jaxrnn.ops import affine, align, tanh, zeros


class MIRNNParams(NamedTuple):
    w_x: Array  # [input, hidden]
    w_h: Array  # [hidden, hidden]
    alpha: Array  # [hidden], scales the product of both
    beta: Array  # [2, hidden], scales the product with the state, then that with the input
    b: Array  # [hidden]


class MIRNNState(NamedTuple):
    h: Array  # [*batch, hidden]


@dataclass(frozen=True)
class MIRNN(Cell):
    r"""Elman network with multiplicative integration: the input also scales what comes from the past.

    The elementwise product of what the network reads from the input and from the state is added to the usual sum. With
    :math:`\alpha = 0` it is an `Elman` network whose products are scaled by :math:`\beta`. `MILSTM` is the same idea
    in an LSTM.

    .. math:: h_t = \phi(\alpha \odot W x_t \odot U h_{t-1} + \beta_1 \odot U h_{t-1} + \beta_2 \odot W x_t + b)

    The output is :math:`h_t`.

    Example:
      >>> cell = jaxrnn.MIRNN(hidden_size=64)
      >>> params = cell.init(jax.random.key(0), input_size=8)
      >>> state, ys = jaxrnn.unroll(cell, params, jnp.zeros((20, 32, 8)))  # [time, batch, input]
      >>> ys.shape
      (20, 32, 64)

    Args:
      hidden_size: Size of :math:`h`.
      alpha: Initial value of :math:`\alpha`.
      beta: Initial value of :math:`\beta_1` and :math:`\beta_2`.
      activation: The elementwise function :math:`\phi`, such as `jnp.tanh` or `jax.nn.relu`.

    References:
      Y. Wu, S. Zhang, Y. Zhang, Y. Bengio, R. Salakhutdinov, "On multiplicative integration with recurrent neural
      networks", 2016 (the general form).
    """

    hidden_size: int
    _: KW_ONLY
    alpha: float = 1.0
    beta: float = 0.5
    activation: Callable[[Array], Array] = tanh

    def __post_init__(self) -> None:
        check.positive(self, "hidden_size")
        check.finite(self, "alpha", "beta")
        check.function(self, "activation")

    def init(self, key: Array, input_size: int) -> MIRNNParams:
        n = self.hidden_size
        k_x, k_h = jax.random.split(key)
        w_x = glorot_uniform(k_x, (input_size, n))
        w_h = orthogonal(k_h, (n, n))
        alpha = jnp.full(n, float(self.alpha))
        beta = jnp.full((2, n), float(self.beta))
        return MIRNNParams(w_x, w_h, alpha, beta, jnp.zeros(n))

    def initial_state(self, params, batch_shape=(), dtype=None) -> MIRNNState:
        return MIRNNState(*zeros(params, batch_shape, dtype, self.hidden_size))

    def project(self, params: MIRNNParams, x: Array, key: Keys = None) -> tuple[Array, Array]:
        z = affine(x, params.w_x)
        alpha, beta_h, beta_x, b = align((params.alpha, *params.beta, params.b), z)
        return alpha * z + beta_h, beta_x * z + b

    def step(self, params: MIRNNParams, state: MIRNNState, z: tuple[Array, Array]) -> MIRNNState:
        slope, offset = z
        return MIRNNState(h=self.activation(slope * (state.h @ params.w_h) + offset))

    def readout(self, params: MIRNNParams, state: MIRNNState, z: tuple[Array, Array]) -> Array:
        return state.h
