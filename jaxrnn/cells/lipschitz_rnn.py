"""Lipschitz recurrent neural network."""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from jaxrnn import _check as check
from jaxrnn.initializers import gates, glorot_uniform
from jaxrnn.layer import Cell, Keys
from jaxrnn.ops import affine, tanh, zeros


class LipschitzRNNParams(NamedTuple):
    w_x: Array  # [input, hidden], U
    m: Array  # [hidden, 2 * hidden], the transposes of M_A and M_W
    b: Array  # [hidden]


class LipschitzRNNState(NamedTuple):
    h: Array  # [*batch, hidden]


@dataclass(frozen=True)
class LipschitzRNN(Cell):
    r"""Lipschitz recurrent network: Euler's method for a linear equation plus a bounded nonlinearity.

    The symmetric part of a recurrent matrix makes the state grow or decay, and the skew-symmetric part rotates it.
    :math:`\beta` sets how much of each the matrices have, and :math:`\gamma` shifts their eigenvalues to the stable
    side. `AntisymmetricRNN` has no linear part and a skew-symmetric matrix.

    .. math::
        A &= (1 - \beta_A) (M_A + M_A^\top) + \beta_A (M_A - M_A^\top) - \gamma_A I \\
        W &= (1 - \beta_W) (M_W + M_W^\top) + \beta_W (M_W - M_W^\top) - \gamma_W I \\
        h_t &= h_{t-1} + \epsilon (A h_{t-1} + \tanh(W h_{t-1} + U x_t + b))

    The output is :math:`h_t`. The entries of :math:`M_A` and :math:`M_W` are initialized from a normal distribution
    whose standard deviation is 1 divided by the hidden size.

    Example:
      >>> cell = jaxrnn.LipschitzRNN(hidden_size=32, epsilon=0.1)
      >>> params = cell.init(jax.random.key(0), input_size=8)
      >>> state, ys = jaxrnn.unroll(cell, params, jnp.zeros((20, 4, 8)))  # [time, batch, input]
      >>> ys.shape
      (20, 4, 32)

    Args:
      hidden_size: Size of :math:`h`.
      epsilon: :math:`\epsilon`, the step size of Euler's method; above 0.
      beta_a: :math:`\beta_A`, from 0 (a symmetric matrix) to 1 (a skew-symmetric one).
      beta_w: :math:`\beta_W`, likewise.
      gamma_a: :math:`\gamma_A`, at least 0.
      gamma_w: :math:`\gamma_W`, at least 0.

    References:
      N. B. Erichson, O. Azencot, A. Queiruga, L. Hodgkinson, M. W. Mahoney, "Lipschitz recurrent neural networks",
      2021.

    Deviations:
      The paper also tries a Runge-Kutta method in place of Euler's. The linear map to the output is not included.
    """

    hidden_size: int
    _: KW_ONLY
    epsilon: float = 0.03
    beta_a: float = 0.75
    beta_w: float = 0.75
    gamma_a: float = 0.001
    gamma_w: float = 0.001

    def __post_init__(self) -> None:
        check.positive(self, "hidden_size")
        check.above(self, "epsilon", 0)
        check.between(self, "beta_a", 0, 1)
        check.between(self, "beta_w", 0, 1)
        check.non_negative(self, "gamma_a", "gamma_w")

    def init(self, key: Array, input_size: int) -> LipschitzRNNParams:
        n = self.hidden_size
        k_x, k_m = jax.random.split(key)
        m = gates(jax.random.normal, k_m, (n, n), 2) / n
        return LipschitzRNNParams(glorot_uniform(k_x, (input_size, n)), m, jnp.zeros(n))

    def initial_state(self, params, batch_shape=(), dtype=None) -> LipschitzRNNState:
        return LipschitzRNNState(*zeros(params, batch_shape, dtype, self.hidden_size))

    def project(self, params: LipschitzRNNParams, x: Array, key: Keys = None) -> Array:
        return affine(x, params.w_x, params.b)

    def step(self, params: LipschitzRNNParams, state: LipschitzRNNState, z: Array) -> LipschitzRNNState:
        m_a, m_w = jnp.split(params.m, 2, axis=-1)
        w_h = jnp.concatenate([_mixed(m_a, self.beta_a, self.gamma_a), _mixed(m_w, self.beta_w, self.gamma_w)], axis=-1)
        linear, a = jnp.split(state.h @ w_h, 2, axis=-1)
        return LipschitzRNNState(h=state.h + self.epsilon * (linear + tanh(a + z)))

    def readout(self, params: LipschitzRNNParams, state: LipschitzRNNState, z: Array) -> Array:
        return state.h


def _mixed(m: Array, beta: float, gamma: float) -> Array:
    """Mixes the symmetric and the skew-symmetric part of a matrix, and shifts its eigenvalues by -gamma."""
    return (1 - beta) * (m + m.T) + beta * (m - m.T) - gamma * jnp.eye(len(m), dtype=m.dtype)
