"""Legendre memory unit."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.nn.initializers import glorot_normal, lecun_uniform

from jaxrnn import _check as check
from jaxrnn.layer import Cell, Keys
from jaxrnn.ops import affine, align, tanh, zeros


class LMUParams(NamedTuple):
    w_x: Array  # [input, 1 + hidden], for u and h
    w_h: Array  # [hidden, 1 + hidden], for u and h
    e_m: Array  # [memory, 1], for u
    w_m: Array  # [memory, hidden], for h


class LMUState(NamedTuple):
    h: Array  # [*batch, hidden]
    m: Array  # [*batch, memory]


@dataclass(frozen=True)
class LMU(Cell):
    r"""Legendre memory unit: a linear memory of a window of the past, beside a vanilla recurrent network.

    The memory :math:`m` holds the coefficients of Legendre polynomials for the last :math:`\theta` steps of the signal
    :math:`u`.

    .. math::
        u_t &= e_x^T x_t + e_h^T h_{t-1} + e_m^T m_{t-1} \\
        m_t &= \bar{A} m_{t-1} + \bar{B} u_t \\
        h_t &= \tanh(W_x x_t + W_h h_{t-1} + W_m m_t)

    where :math:`\bar{A}` and :math:`\bar{B}` solve :math:`\theta \dot{m} = A m + B u` over one step with constant
    :math:`u`. :math:`A` and :math:`B` are :math:`a_{ij} = (2i + 1) (-1 \text{ if } i < j \text{ else } (-1)^{i-j+1})`
    and :math:`b_i = (2i + 1)(-1)^i`, with i and j from 0. They are constants, not parameters. The output is
    :math:`h_t`.

    Example:
      >>> cell = jaxrnn.LMU(hidden_size=64, memory_size=12, theta=20.0)
      >>> params = cell.init(jax.random.key(0), input_size=8)
      >>> state, ys = jaxrnn.unroll(cell, params, jnp.zeros((20, 4, 8)))  # [time, batch, input]
      >>> ys.shape, state.m.shape
      ((20, 4, 64), (4, 12))

    Args:
      hidden_size: Size of :math:`h`.
      memory_size: Size of :math:`m`, the number of polynomials.
      theta: :math:`\theta`, the length of the window in steps.

    References:
      A. Voelker, I. Kajic, C. Eliasmith, "Legendre memory units: continuous-time representation in recurrent neural
      networks", 2019.
    """

    hidden_size: int
    memory_size: int
    theta: float

    def __post_init__(self) -> None:
        check.positive(self, "hidden_size", "memory_size")
        check.above(self, "theta", 0)

    def init(self, key: Array, input_size: int) -> LMUParams:
        n, m = self.hidden_size, self.memory_size
        k_ex, k_eh, k_wx, k_wh, k_wm = jax.random.split(key, 5)
        e_x = lecun_uniform()(k_ex, (input_size, 1))
        e_h = lecun_uniform()(k_eh, (n, 1))
        w_x = glorot_normal()(k_wx, (input_size, n))
        w_h = glorot_normal()(k_wh, (n, n))
        w_m = glorot_normal()(k_wm, (m, n))
        return LMUParams(jnp.hstack([e_x, w_x]), jnp.hstack([e_h, w_h]), jnp.zeros((m, 1)), w_m)

    def initial_state(self, params, batch_shape=(), dtype=None) -> LMUState:
        return LMUState(*zeros(params, batch_shape, dtype, self.hidden_size, self.memory_size))

    def project(self, params: LMUParams, x: Array, key: Keys = None) -> Array:
        return affine(x, params.w_x)

    def step(self, params: LMUParams, state: LMUState, z: Array) -> LMUState:
        a, b = (jnp.asarray(constant, params.w_m.dtype) for constant in _discrete(self.memory_size, self.theta))
        z = z + state.h @ params.w_h
        u = z[..., :1] + state.m @ params.e_m
        m = state.m @ a.T + u * align(b, u)
        return LMUState(h=tanh(z[..., 1:] + m @ params.w_m), m=m)

    def readout(self, params: LMUParams, state: LMUState, z: Array) -> Array:
        return state.h


@cache
def _discrete(order: int, theta: float) -> tuple[np.ndarray, np.ndarray]:
    """Returns A and B of one step, from the exponential of [[A, B], [0, 0]] / theta.

    Computes it by scaling and squaring: a Taylor series of the matrix halved several times, and as many squarings.
    """
    i = np.arange(order)
    a = (2 * i[:, None] + 1) * np.where(i[:, None] < i, -1.0, (-1.0) ** (i[:, None] - i + 1))
    b = (2 * i + 1) * (-1.0) ** i
    both = np.vstack([np.hstack([a, b[:, None]]), np.zeros(order + 1)]) / theta
    halvings = max(0, int(np.ceil(np.log2(np.abs(both).sum(0).max()))) + 1)
    term = power = np.eye(order + 1)
    for n in range(1, 19):
        term = term @ both / (2**halvings * n)
        power = power + term
    for _ in range(halvings):
        power = power @ power
    return power[:order, :order], power[:order, order]
