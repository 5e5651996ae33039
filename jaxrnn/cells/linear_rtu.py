"""Recurrent trace unit with a linear recurrence."""

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
from jaxrnn.layer import Keys, LinearCell
from jaxrnn.ops import affine, align, complex_dtype, joint_dtype, spread_like, to_complex


class LinearRTUParams(NamedTuple):
    nu: Array  # [hidden], logarithms of the decay rates
    theta: Array  # [hidden], logarithms of the angles
    w_x: Array  # [input, 2 * hidden], in the order c1, c2


class LinearRTUState(NamedTuple):
    c: Array  # complex [*batch, hidden], with the real parts c1 and the imaginary parts c2


@dataclass(frozen=True)
class LinearRTU(LinearCell):
    r"""Linear recurrent trace unit (linear RTU): pairs of numbers that rotate and decay, before an activation.

    The recurrence is linear, so all steps can run in parallel with `jaxrnn.loops.AssociativeScan`. `RTU` has the
    activation inside the recurrence, and `LRU` a linear map in place of the activation.

    .. math::
        r &= \exp(-e^{\nu}), \quad g = r \cos(e^{\theta}), \quad \phi = r \sin(e^{\theta}), \quad
            \gamma = \sqrt{1 - r^2} \\
        c^1_t &= g \odot c^1_{t-1} - \phi \odot c^2_{t-1} + \gamma \odot W_1 x_t \\
        c^2_t &= g \odot c^2_{t-1} + \phi \odot c^1_{t-1} + \gamma \odot W_2 x_t \\
        y_t &= f([c^1_t, c^2_t])

    The state is :math:`c^1_t + i c^2_t`, which a step multiplies by :math:`g + i \phi`. The output is :math:`y_t`.

    Example:
      >>> cell = jaxrnn.LinearRTU(hidden_size=16, smallest=0.9)
      >>> params = cell.init(jax.random.key(0), input_size=8)
      >>> xs = jnp.zeros((20, 4, 8))  # [time, batch, input]
      >>> state, ys = jaxrnn.unroll(cell, params, xs, loop=jaxrnn.loops.AssociativeScan())
      >>> ys.shape, state.c.shape, jnp.iscomplexobj(state.c)
      ((20, 4, 32), (4, 16), True)

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

    def init(self, key: Array, input_size: int) -> LinearRTUParams:
        n = self.hidden_size
        k_nu, k_theta, k_x = jax.random.split(key, 3)
        nu, theta = draw_ring(k_nu, k_theta, n, self.smallest, self.largest, self.largest_phase)
        return LinearRTUParams(nu, theta, gates(glorot_uniform, k_x, (input_size, n), 2))

    def initial_state(self, params, batch_shape=(), dtype=None) -> LinearRTUState:
        dtype = complex_dtype(joint_dtype(params) if dtype is None else dtype)
        return LinearRTUState(spread_like(params, jnp.zeros((*batch_shape, self.hidden_size), dtype)))

    def project(self, params: LinearRTUParams, x: Array, key: Keys = None) -> Array:
        z = affine(x, params.w_x)
        gamma = jnp.sqrt(-jnp.expm1(-2 * jnp.exp(params.nu)))
        return z * align(jnp.concatenate([gamma, gamma]), z)

    def coefficients(self, params: LinearRTUParams, z: Array) -> tuple[LinearRTUState, LinearRTUState]:
        turn = jnp.exp(to_complex(-jnp.exp(params.nu), jnp.exp(params.theta)))  # g + i phi
        b = to_complex(*jnp.split(z, 2, axis=-1))
        return LinearRTUState(c=jnp.broadcast_to(turn, b.shape)), LinearRTUState(c=b)

    def readout(self, params: LinearRTUParams, state: LinearRTUState, z: Array) -> Array:
        return self.activation(jnp.concatenate([state.c.real, state.c.imag], axis=-1))
