"""Jordan's sequential network."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import KW_ONLY, dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from jaxrnn import _check as check
from jaxrnn.initializers import glorot_uniform
from jaxrnn.layer import Cell, Keys
from jaxrnn.ops import affine, tanh, zeros


class JordanParams(NamedTuple):
    w_x: Array  # [input, hidden]
    w_s: Array  # [output, hidden]
    w_h: Array  # [hidden, output]
    b: Array  # [hidden]
    b_y: Array  # [output]


class JordanState(NamedTuple):
    y: Array  # [*batch, output]
    s: Array  # [*batch, output]


@dataclass(frozen=True)
class Jordan(Cell):
    r"""Jordan's sequential network, which feeds its output back.

    The recurrence passes through the output :math:`y`, while that of `Elman` passes through the hidden units.

    .. math::
        s_t &= \mu s_{t-1} + y_{t-1} \\
        h_t &= \phi(W x_t + R s_t + b) \\
        y_t &= \psi(V h_t + b_y)

    The output is :math:`y_t`.

    Example:
      >>> cell = jaxrnn.Jordan(hidden_size=64, output_size=3, decay_rate=0.5)
      >>> params = cell.init(jax.random.key(0), input_size=8)
      >>> state, ys = jaxrnn.unroll(cell, params, jnp.zeros((20, 4, 8)))  # [time, batch, input]
      >>> ys.shape, state.s.shape
      ((20, 4, 3), (4, 3))

    Args:
      hidden_size: Size of :math:`h`.
      output_size: Size of :math:`y` and :math:`s`.
      decay_rate: :math:`\mu`, the share of the earlier outputs that is kept at each step.
      activation: :math:`\phi`, an elementwise function.
      output_activation: :math:`\psi`, an elementwise function.

    References:
      M. Jordan, "Serial order: a parallel distributed processing approach", 1986; without decay as in J. Elman,
      "Finding structure in time", 1990.

    Deviations:
      The default activation of both layers is tanh, while the paper has the logistic function.
    """

    hidden_size: int
    output_size: int
    _: KW_ONLY
    decay_rate: float = 0.0
    activation: Callable[[Array], Array] = tanh
    output_activation: Callable[[Array], Array] = tanh

    def __post_init__(self) -> None:
        check.positive(self, "hidden_size", "output_size")
        check.rate(self, "decay_rate")
        check.function(self, "activation", "output_activation")

    def init(self, key: Array, input_size: int) -> JordanParams:
        n, m = self.hidden_size, self.output_size
        k_x, k_s, k_h = jax.random.split(key, 3)
        w_x = glorot_uniform(k_x, (input_size, n))
        w_s = glorot_uniform(k_s, (m, n))
        w_h = glorot_uniform(k_h, (n, m))
        return JordanParams(w_x, w_s, w_h, jnp.zeros(n), jnp.zeros(m))

    def initial_state(self, params, batch_shape=(), dtype=None) -> JordanState:
        return JordanState(*zeros(params, batch_shape, dtype, self.output_size, self.output_size))

    def project(self, params: JordanParams, x: Array, key: Keys = None) -> Array:
        return affine(x, params.w_x, params.b)

    def step(self, params: JordanParams, state: JordanState, z: Array) -> JordanState:
        s = self.decay_rate * state.s + state.y
        h = self.activation(z + s @ params.w_s)
        return JordanState(y=self.output_activation(affine(h, params.w_h, params.b_y)), s=s)

    def readout(self, params: JordanParams, state: JordanState, z: Array) -> Array:
        return state.y
