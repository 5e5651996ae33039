"""Long expressive memory."""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from jaxrnn import _check as check
from jaxrnn.initializers import gates, glorot_uniform, orthogonal
from jaxrnn.layer import Cell, Keys
from jaxrnn.ops import affine, sigmoid, tanh, zeros


class LEMParams(NamedTuple):
    w_x: Array  # [input, 4 * hidden], gates in the order 1, 2, z, y
    w_y: Array  # [hidden, 3 * hidden], gates in the order 1, 2, z
    w_z: Array  # [hidden, hidden]
    b: Array  # [4 * hidden]


class LEMState(NamedTuple):
    y: Array  # [*batch, hidden]
    z: Array  # [*batch, hidden]


@dataclass(frozen=True)
class LEM(Cell):
    r"""Long expressive memory: a discretized system of differential equations with two learned time scales.

    The step sizes of both states depend on the input and on the output, and they differ between units.

    .. math::
        \Delta t_n &= \Delta t \, \sigma(W_1 y_{n-1} + V_1 u_n + b_1) \\
        \overline{\Delta t}_n &= \Delta t \, \sigma(W_2 y_{n-1} + V_2 u_n + b_2) \\
        z_n &= (1 - \Delta t_n) \odot z_{n-1} + \Delta t_n \odot \tanh(W_z y_{n-1} + V_z u_n + b_z) \\
        y_n &= (1 - \overline{\Delta t}_n) \odot y_{n-1} +
        \overline{\Delta t}_n \odot \tanh(W_y z_n + V_y u_n + b_y)

    where :math:`u_n` is the input. The output is :math:`y_n`.

    Example:
      >>> cell = jaxrnn.LEM(hidden_size=64, dt=0.5)
      >>> params = cell.init(jax.random.key(0), input_size=8)
      >>> state, ys = jaxrnn.unroll(cell, params, jnp.zeros((20, 4, 8)))  # [time, batch, input]
      >>> ys.shape, state.z.shape
      ((20, 4, 64), (4, 64))

    Args:
      hidden_size: Size of :math:`y` and :math:`z`.
      dt: :math:`\Delta t`, the largest step size.

    References:
      T. K. Rusch, S. Mishra, N. B. Erichson, M. Mahoney, "Long expressive memory for sequence modeling", 2022.
    """

    hidden_size: int
    _: KW_ONLY
    dt: float = 1.0

    def __post_init__(self) -> None:
        check.positive(self, "hidden_size")
        check.above(self, "dt", 0)

    def init(self, key: Array, input_size: int) -> LEMParams:
        n = self.hidden_size
        k_x, k_y, k_z = jax.random.split(key, 3)
        w_x = gates(glorot_uniform, k_x, (input_size, n), 4)
        w_y = gates(orthogonal, k_y, (n, n), 3)
        return LEMParams(w_x, w_y, orthogonal(k_z, (n, n)), jnp.zeros(4 * n))

    def initial_state(self, params, batch_shape=(), dtype=None) -> LEMState:
        return LEMState(*zeros(params, batch_shape, dtype, self.hidden_size, self.hidden_size))

    def project(self, params: LEMParams, x: Array, key: Keys = None) -> Array:
        return affine(x, params.w_x, params.b)

    def step(self, params: LEMParams, state: LEMState, z: Array) -> LEMState:
        n = self.hidden_size
        dt_z, dt_y, new_z = jnp.split(z[..., : 3 * n] + state.y @ params.w_y, 3, axis=-1)
        dt_z = self.dt * sigmoid(dt_z)
        dt_y = self.dt * sigmoid(dt_y)
        slow = (1 - dt_z) * state.z + dt_z * tanh(new_z)
        y = (1 - dt_y) * state.y + dt_y * tanh(slow @ params.w_z + z[..., 3 * n :])
        return LEMState(y=y, z=slow)

    def readout(self, params: LEMParams, state: LEMState, z: Array) -> Array:
        return state.y
