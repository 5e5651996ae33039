"""The real-gated linear recurrent unit, RG-LRU."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from jaxrnn.initializers import gates, glorot_uniform
from jaxrnn.layer import Keys, LinearCell
from jaxrnn.ops import affine, sigmoid, zeros

C = 8.0  # the paper's exponent


class RGLRUParams(NamedTuple):
    w_x: Array  # [input, 2 * input], gates in the order r, i
    b: Array  # [2 * input]
    decay: Array  # [input], the paper's Lambda


class RGLRUState(NamedTuple):
    h: Array  # [*batch, input]


class RGLRUInput(NamedTuple):
    gates: Array  # [*batch, 2 * input]
    x: Array  # [*batch, input]


@dataclass(frozen=True)
class RGLRU(LinearCell):
    r"""Real-gated linear recurrent unit, as wide as its input.

    .. math::
        r_t &= \sigma(W_a x_t + b_a), \quad i_t = \sigma(W_x x_t + b_x) \\
        a_t &= \exp(-8 \, \mathrm{softplus}(\Lambda) \odot r_t) \\
        h_t &= a_t \odot h_{t-1} + \sqrt{1 - a_t^2} \odot (i_t \odot x_t)

    The output is :math:`h_t`. The input itself is read, so symbols need an `Embedding` first.

    Args:
      longest, shortest: at initialisation :math:`a` with an open gate is drawn between them.

    References: S. De et al., "Griffin: mixing gated linear recurrences with local attention for efficient language
    models", 2024. Deviation: gates with full matrices, where the paper's are block-diagonal.
    """

    shortest: float = 0.9
    longest: float = 0.999

    def init(self, key: Array, input_size: int) -> RGLRUParams:
        k_x, k_a = jax.random.split(key)
        a = jax.random.uniform(k_a, (input_size,), minval=self.shortest, maxval=self.longest)
        decay = jnp.log(jnp.expm1(-jnp.log(a) / C))  # so that exp(-8 softplus(decay)) is a
        w_x = gates(glorot_uniform, k_x, (input_size, input_size), 2)
        return RGLRUParams(w_x, jnp.zeros(2 * input_size), decay)

    def initial_state(self, params, batch_shape=(), dtype=None) -> RGLRUState:
        return RGLRUState(*zeros(params, batch_shape, dtype, params.decay.shape[-1]))

    def project(self, params: RGLRUParams, x: Array, key: Keys = None) -> RGLRUInput:
        return RGLRUInput(affine(x, params.w_x, params.b), x)

    def coefficients(self, params: RGLRUParams, z: RGLRUInput) -> tuple[RGLRUState, RGLRUState]:
        r, i = jnp.split(sigmoid(z.gates), 2, axis=-1)
        log_a = -C * jax.nn.softplus(params.decay) * r
        b = jnp.sqrt(-jnp.expm1(2 * log_a)) * i * z.x
        return RGLRUState(h=jnp.exp(log_a)), RGLRUState(h=b)

    def readout(self, params: RGLRUParams, state: RGLRUState, z: RGLRUInput) -> Array:
        return state.h
