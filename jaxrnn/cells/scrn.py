"""Structurally constrained recurrent network."""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from jaxrnn import _check as check
from jaxrnn.initializers import glorot_uniform, orthogonal
from jaxrnn.layer import Cell, Keys
from jaxrnn.ops import affine, sigmoid, zeros


class SCRNParams(NamedTuple):
    w_x: Array  # [input, context + hidden], in the order s, h
    w_s: Array  # [context, hidden]
    w_h: Array  # [hidden, hidden]


class SCRNState(NamedTuple):
    h: Array  # [*batch, hidden]
    s: Array  # [*batch, context]


@dataclass(frozen=True)
class SCRN(Cell):
    r"""Structurally constrained recurrent network: a vanilla network beside context units that change slowly.

    The context units are moving averages of a linear map of the inputs. Their rate is fixed, so they keep what they
    read over many steps without any gate.

    .. math::
        s_t &= (1 - \alpha) B x_t + \alpha s_{t-1} \\
        h_t &= \sigma(P s_t + A x_t + R h_{t-1})

    The output is :math:`h_t` and :math:`s_t`, concatenated. The paper's :math:`y_t = f(U h_t + V s_t)` is a `Dense`
    layer on top of it.

    Example:
      >>> cell = jaxrnn.SCRN(hidden_size=64, context_size=16)
      >>> params = cell.init(jax.random.key(0), input_size=8)
      >>> state, ys = jaxrnn.unroll(cell, params, jnp.zeros((20, 32, 8)))  # [time, batch, input]
      >>> ys.shape
      (20, 32, 80)

    Args:
      hidden_size: Size of :math:`h`.
      context_size: Size of :math:`s`.
      decay_rate: :math:`\alpha`, the share of the context that is kept at each step.

    References:
      T. Mikolov, A. Joulin, S. Chopra, M. Mathieu, M. Ranzato, "Learning longer memory in recurrent neural networks",
      2014.
    """

    hidden_size: int
    context_size: int
    _: KW_ONLY
    decay_rate: float = 0.95

    def __post_init__(self) -> None:
        check.positive(self, "hidden_size", "context_size")
        check.rate(self, "decay_rate")

    def init(self, key: Array, input_size: int) -> SCRNParams:
        n = self.hidden_size
        m = self.context_size
        k_b, k_a, k_s, k_h = jax.random.split(key, 4)
        w_x = jnp.concatenate([glorot_uniform(k_b, (input_size, m)), glorot_uniform(k_a, (input_size, n))], axis=-1)
        return SCRNParams(w_x, glorot_uniform(k_s, (m, n)), orthogonal(k_h, (n, n)))

    def initial_state(self, params, batch_shape=(), dtype=None) -> SCRNState:
        return SCRNState(*zeros(params, batch_shape, dtype, self.hidden_size, self.context_size))

    def project(self, params: SCRNParams, x: Array, key: Keys = None) -> Array:
        return affine(x, params.w_x)

    def step(self, params: SCRNParams, state: SCRNState, z: Array) -> SCRNState:
        x_s, x_h = jnp.split(z, [self.context_size], axis=-1)
        s = (1 - self.decay_rate) * x_s + self.decay_rate * state.s
        return SCRNState(h=sigmoid(s @ params.w_s + x_h + state.h @ params.w_h), s=s)

    def readout(self, params: SCRNParams, state: SCRNState, z: Array) -> Array:
        return jnp.concatenate([state.h, state.s], axis=-1)
