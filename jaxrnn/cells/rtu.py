"""Recurrent trace unit with a nonlinear recurrence."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import KW_ONLY, dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from jaxrnn import _check as check
from jaxrnn.cells._rings import draw_ring
from jaxrnn.initializers import gates, glorot_uniform
from jaxrnn.layer import Cell, Keys
from jaxrnn.ops import affine, align, zeros


class RTUParams(NamedTuple):
    nu: Array  # [hidden], logarithms of the decay rates
    theta: Array  # [hidden], logarithms of the angles
    w_x: Array  # [input, 2 * hidden], in the order c1, c2


class RTUState(NamedTuple):
    c1: Array  # [*batch, hidden]
    c2: Array  # [*batch, hidden]


@dataclass(frozen=True)
class RTU(Cell):
    r"""Recurrent trace unit (RTU): pairs of numbers that rotate, decay and pass through an activation at each step.

    No unit reads another one, so the loop has no product with a matrix. `LinearRTU` applies the activation to the
    output only.

    .. math::
        r &= \exp(-e^{\nu}), \quad g = r \cos(e^{\theta}), \quad \phi = r \sin(e^{\theta}), \quad
            \gamma = \sqrt{1 - r^2} \\
        c^1_t &= f(g \odot c^1_{t-1} - \phi \odot c^2_{t-1} + \gamma \odot W_1 x_t) \\
        c^2_t &= f(g \odot c^2_{t-1} + \phi \odot c^1_{t-1} + \gamma \odot W_2 x_t)

    The output is :math:`[c^1_t, c^2_t]`.

    Example:
      >>> cell = jaxrnn.RTU(hidden_size=16, smallest=0.9)
      >>> params = cell.init(jax.random.key(0), input_size=8)
      >>> state, ys = jaxrnn.unroll(cell, params, jnp.zeros((20, 4, 8)))  # [time, batch, input]
      >>> ys.shape, state.c1.shape
      ((20, 4, 32), (4, 16))

    Args:
      hidden_size: Number of pairs, half the size of the output.
      activation: :math:`f`, an elementwise function such as `jnp.tanh` or `jax.nn.relu`.
      smallest: Lower bound of the initial :math:`r`.
      largest: Upper bound of the initial :math:`r`, at most 1.
      largest_phase: Upper bound of the initial angles; the lower bound is 0.

    References:
      E. Elelimy, A. White, M. Bowling, M. White, "Real-time recurrent learning using trace units in reinforcement
      learning", 2024.

    Deviations:
      The gradient is propagated through all steps, where the paper computes the same gradient forward in time.
    """

    hidden_size: int
    _: KW_ONLY
    activation: Callable[[Array], Array] = jax.nn.relu
    smallest: float = 0.0
    largest: float = 1.0
    largest_phase: float = 6.28

    def __post_init__(self) -> None:
        check.positive(self, "hidden_size")
        check.function(self, "activation")
        check.rate(self, "smallest")
        check.between(self, "largest", self.smallest, 1)
        check.above(self, "largest", 0)
        check.above(self, "largest_phase", 0)

    def init(self, key: Array, input_size: int) -> RTUParams:
        n = self.hidden_size
        k_nu, k_theta, k_x = jax.random.split(key, 3)
        nu, theta = draw_ring(k_nu, k_theta, n, self.smallest, self.largest, self.largest_phase)
        return RTUParams(nu, theta, gates(glorot_uniform, k_x, (input_size, n), 2))

    def initial_state(self, params, batch_shape=(), dtype=None) -> RTUState:
        return RTUState(*zeros(params, batch_shape, dtype, self.hidden_size, self.hidden_size))

    def project(self, params: RTUParams, x: Array, key: Keys = None) -> Array:
        z = affine(x, params.w_x)
        gamma = jnp.sqrt(-jnp.expm1(-2 * jnp.exp(params.nu)))
        return z * align(jnp.concatenate([gamma, gamma]), z)

    def step(self, params: RTUParams, state: RTUState, z: Array) -> RTUState:
        r, angle = jnp.exp(-jnp.exp(params.nu)), jnp.exp(params.theta)
        g, phi = align((r * jnp.cos(angle), r * jnp.sin(angle)), state.c1)
        z_1, z_2 = jnp.split(z, 2, axis=-1)
        return RTUState(
            c1=self.activation(g * state.c1 - phi * state.c2 + z_1),
            c2=self.activation(g * state.c2 + phi * state.c1 + z_2),
        )

    def readout(self, params: RTUParams, state: RTUState, z: Array) -> Array:
        return jnp.concatenate([state.c1, state.c2], axis=-1)
