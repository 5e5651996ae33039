"""Linear recurrent unit."""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from jaxrnn import _check as check
from jaxrnn.cells._rings import draw_ring
from jaxrnn.initializers import glorot_uniform
from jaxrnn.layer import Keys, LinearCell
from jaxrnn.ops import affine, align, complex_dtype, joint_dtype, spread_like, to_complex


class LRUParams(NamedTuple):
    nu: Array  # [state], logarithms of the decay rates of the eigenvalues
    theta: Array  # [state], logarithms of their phases
    gamma: Array  # [state], logarithms of the factors of the input
    w_x: Array  # [input, 2 * state], B: real parts, then imaginary parts
    w_s: Array  # [2 * state, output], C: from the real parts, then from the imaginary parts
    w_d: Array  # [input, output], D


class LRUState(NamedTuple):
    s: Array  # complex [*batch, state]


class LRUInput(NamedTuple):
    bu: Array  # [*batch, 2 * state]
    du: Array  # [*batch, output]


@dataclass(frozen=True)
class LRU(LinearCell):
    r"""Linear recurrent unit (LRU): a diagonal complex linear recurrence that its parametrization keeps stable.

    Its eigenvalues are constant over time. All steps can run in parallel, with `jaxrnn.loops.AssociativeScan`.

    .. math::
        \lambda &= \exp(-e^{\nu} + i e^{\theta}) \\
        s_t &= \lambda \odot s_{t-1} + e^{\gamma} \odot B u_t \\
        y_t &= \mathrm{Re}(C s_t) + D u_t

    The output is :math:`y_t`.

    Example:
      >>> cell = jaxrnn.LRU(state_size=16, output_size=32, smallest=0.9, largest=0.999)
      >>> params = cell.init(jax.random.key(0), input_size=8)
      >>> xs = jnp.zeros((20, 4, 8))  # [time, batch, input]
      >>> state, ys = jaxrnn.unroll(cell, params, xs, loop=jaxrnn.loops.AssociativeScan())
      >>> ys.shape, state.s.shape, jnp.iscomplexobj(state.s)
      ((20, 4, 32), (4, 16), True)

    Args:
      state_size: Size of :math:`s`.
      output_size: Size of :math:`y`.
      smallest: Lower bound of the initial moduli of the eigenvalues :math:`\lambda`.
      largest: Upper bound of the initial moduli, at most 1.
      largest_phase: Upper bound of the initial phases of the eigenvalues; the lower bound is 0.

    References:
      A. Orvieto et al., "Resurrecting recurrent neural networks for long sequences", 2023.

    Deviations:
      :math:`D` is a matrix, so that the input and the output may have different sizes.
    """

    state_size: int
    output_size: int
    _: KW_ONLY
    smallest: float = 0.0
    largest: float = 0.99
    largest_phase: float = 6.28

    def __post_init__(self) -> None:
        check.positive(self, "state_size", "output_size")
        check.rate(self, "smallest")
        check.between(self, "largest", self.smallest, 1)
        check.above(self, "largest", 0)
        check.above(self, "largest_phase", 0)

    def init(self, key: Array, input_size: int) -> LRUParams:
        n = self.state_size
        k_nu, k_theta, k_x, k_s, k_d = jax.random.split(key, 5)
        nu, theta = draw_ring(k_nu, k_theta, n, self.smallest, self.largest, self.largest_phase)
        gamma = 0.5 * jnp.log(-jnp.expm1(-2 * jnp.exp(nu)))  # the square root of 1 - |lambda|^2
        w_x = jax.random.normal(k_x, (input_size, 2 * n)) / jnp.sqrt(2 * input_size)
        w_s = jax.random.normal(k_s, (2 * n, self.output_size)) / jnp.sqrt(n)
        w_d = glorot_uniform(k_d, (input_size, self.output_size))
        return LRUParams(nu, theta, gamma, w_x, w_s, w_d)

    def initial_state(self, params, batch_shape=(), dtype=None) -> LRUState:
        dtype = complex_dtype(joint_dtype(params) if dtype is None else dtype)
        return LRUState(spread_like(params, jnp.zeros((*batch_shape, self.state_size), dtype)))

    def project(self, params: LRUParams, x: Array, key: Keys = None) -> LRUInput:
        scale = jnp.exp(jnp.concatenate([params.gamma, params.gamma]))
        bu = affine(x, params.w_x)
        return LRUInput(bu * align(scale, bu), affine(x, params.w_d))

    def coefficients(self, params: LRUParams, z: LRUInput) -> tuple[LRUState, LRUState]:
        eigenvalues = jnp.exp(to_complex(-jnp.exp(params.nu), jnp.exp(params.theta)))
        b = to_complex(*jnp.split(z.bu, 2, axis=-1))
        return LRUState(s=jnp.broadcast_to(eigenvalues, b.shape)), LRUState(s=b)

    def readout(self, params: LRUParams, state: LRUState, z: LRUInput) -> Array:
        w_re, w_im = jnp.split(params.w_s, 2)
        return state.s.real @ w_re - state.s.imag @ w_im + z.du
