"""Coupled oscillatory recurrent network."""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from jaxrnn import _check as check
from jaxrnn.initializers import gates, glorot_uniform, orthogonal
from jaxrnn.layer import Cell, Keys
from jaxrnn.ops import affine, tanh, zeros


class CoRNNParams(NamedTuple):
    w_x: Array  # [input, hidden]
    w_h: Array  # [2 * hidden, hidden], rows in the order y, z
    b: Array  # [hidden]


class CoRNNState(NamedTuple):
    y: Array  # [*batch, hidden]
    z: Array  # [*batch, hidden]


@dataclass(frozen=True)
class CoRNN(Cell):
    r"""Coupled oscillatory recurrent network: nonlinear oscillators that are forced, coupled and damped.

    The paper bounds the gradients, which makes the network suitable for long sequences. `UnICORNN` has independent
    oscillators without damping.

    .. math::
        z_n &= z_{n-1} + \Delta t \, (\tanh(W y_{n-1} + \mathcal{W} z_{n-1} + V u_n + b)
        - \gamma y_{n-1} - \epsilon z_{n-1}) \\
        y_n &= y_{n-1} + \Delta t \, z_n

    where :math:`u_n` is the input. This is the discretization with explicit damping. The output is :math:`y_n`.

    Example:
      >>> cell = jaxrnn.CoRNN(hidden_size=32)
      >>> params = cell.init(jax.random.key(0), input_size=8)
      >>> state, ys = jaxrnn.unroll(cell, params, jnp.zeros((20, 4, 8)))  # [time, batch, input]
      >>> ys.shape, state.z.shape  # positions of the oscillators, and their velocities
      ((20, 4, 32), (4, 32))

    Args:
      hidden_size: Size of :math:`y` and :math:`z`.
      dt: :math:`\Delta t`, the length of a step; above 0.
      gamma: :math:`\gamma`, the frequency of the oscillators; above 0.
      epsilon: :math:`\epsilon`, their damping; above 0.

    References:
      T. K. Rusch, S. Mishra, "Coupled oscillatory recurrent neural network (coRNN): an accurate and (gradient) stable
      architecture for learning long time dependencies", 2021.
    """

    hidden_size: int
    _: KW_ONLY
    dt: float = 0.05
    gamma: float = 2.7
    epsilon: float = 4.7

    def __post_init__(self) -> None:
        check.positive(self, "hidden_size")
        check.above(self, "dt", 0)
        check.above(self, "gamma", 0)
        check.above(self, "epsilon", 0)

    def init(self, key: Array, input_size: int) -> CoRNNParams:
        n = self.hidden_size
        k_x, k_h = jax.random.split(key)
        w_h = jnp.concatenate(jnp.split(gates(orthogonal, k_h, (n, n), 2), 2, axis=-1))
        return CoRNNParams(glorot_uniform(k_x, (input_size, n)), w_h, jnp.zeros(n))

    def initial_state(self, params, batch_shape=(), dtype=None) -> CoRNNState:
        return CoRNNState(*zeros(params, batch_shape, dtype, self.hidden_size, self.hidden_size))

    def project(self, params: CoRNNParams, x: Array, key: Keys = None) -> Array:
        return affine(x, params.w_x, params.b)

    def step(self, params: CoRNNParams, state: CoRNNState, z: Array) -> CoRNNState:
        force = tanh(jnp.concatenate([state.y, state.z], axis=-1) @ params.w_h + z)
        velocity = state.z + self.dt * (force - self.gamma * state.y - self.epsilon * state.z)
        return CoRNNState(y=state.y + self.dt * velocity, z=velocity)

    def readout(self, params: CoRNNParams, state: CoRNNState, z: Array) -> Array:
        return state.y
