"""Undamped independent controlled oscillatory recurrent network."""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from jaxrnn import _check as check
from jaxrnn.initializers import glorot_uniform, uniform
from jaxrnn.layer import Cell, Keys
from jaxrnn.ops import affine, align, sigmoid, tanh, zeros


class UnICORNNParams(NamedTuple):
    w_x: Array  # [input, hidden]
    w_h: Array  # [hidden]
    c: Array  # [hidden]
    b: Array  # [hidden]


class UnICORNNState(NamedTuple):
    y: Array  # [*batch, hidden]
    z: Array  # [*batch, hidden]


@dataclass(frozen=True)
class UnICORNN(Cell):
    r"""Undamped independent controlled oscillatory recurrent network: a Hamiltonian system of independent oscillators.

    Within a layer no unit reads another, so the loop has no product with a matrix. `CoRNN` couples and damps its
    oscillators. This is one layer of the paper's network.

    .. math::
        z_n &= z_{n-1} - \Delta t \, \sigma(c) \odot (\tanh(w \odot y_{n-1} + V u_n + b) + \alpha y_{n-1}) \\
        y_n &= y_{n-1} + \Delta t \, \sigma(c) \odot z_n

    where :math:`u_n` is the input. The output is :math:`y_n`. Initially, :math:`w` is uniform on :math:`[0, 1)`, and
    :math:`c` on :math:`[-0.1, 0.1)`.

    Example:
      >>> cell = jaxrnn.UnICORNN(hidden_size=64, dt=0.05)
      >>> params = cell.init(jax.random.key(0), input_size=8)
      >>> state, ys = jaxrnn.unroll(cell, params, jnp.zeros((20, 32, 8)))  # [time, batch, input]
      >>> ys.shape, params.w_h.shape  # one recurrent weight per unit
      ((20, 32, 64), (64,))

    Args:
      hidden_size: Size of :math:`y` and :math:`z`.
      dt: :math:`\Delta t`, the upper bound of the time step of each unit.
      alpha: :math:`\alpha`, not negative.

    References:
      T. K. Rusch, S. Mishra, "UnICORNN: a recurrent model for learning very long time dependencies", 2021.
    """

    hidden_size: int
    _: KW_ONLY
    dt: float = 0.1
    alpha: float = 1.0

    def __post_init__(self) -> None:
        check.positive(self, "hidden_size")
        check.above(self, "dt", 0)
        check.non_negative(self, "alpha")

    def init(self, key: Array, input_size: int) -> UnICORNNParams:
        n = self.hidden_size
        k_x, k_h, k_c = jax.random.split(key, 3)
        w_x = glorot_uniform(k_x, (input_size, n))
        return UnICORNNParams(w_x, jax.random.uniform(k_h, (n,)), uniform(0.1)(k_c, (n,)), jnp.zeros(n))

    def initial_state(self, params, batch_shape=(), dtype=None) -> UnICORNNState:
        return UnICORNNState(*zeros(params, batch_shape, dtype, self.hidden_size, self.hidden_size))

    def project(self, params: UnICORNNParams, x: Array, key: Keys = None) -> Array:
        return affine(x, params.w_x, params.b)

    def step(self, params: UnICORNNParams, state: UnICORNNState, z: Array) -> UnICORNNState:
        w_h, dt = align((params.w_h, self.dt * sigmoid(params.c)), z)
        momentum = state.z - dt * (tanh(w_h * state.y + z) + self.alpha * state.y)
        return UnICORNNState(y=state.y + dt * momentum, z=momentum)

    def readout(self, params: UnICORNNParams, state: UnICORNNState, z: Array) -> Array:
        return state.y
