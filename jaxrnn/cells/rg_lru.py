"""Real-gated linear recurrent unit."""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from jaxrnn import _check as check
from jaxrnn.initializers import gates, glorot_uniform
from jaxrnn.layer import Keys, LinearCell
from jaxrnn.ops import affine, align, as_features, sigmoid, zeros

C = 8.0  # the constant c of the paper


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
    r"""Real-gated linear recurrent unit (RG-LRU), a gated linear recurrence of the same size as its input.

    The gates depend on the input alone, so all steps can run in parallel with `jaxrnn.loops.AssociativeScan`. The cell
    uses its input without multiplying it by a matrix, so symbols become one-hot vectors; an `Embedding` before it is
    cheaper.

    .. math::
        r_t &= \sigma(W_a x_t + b_a), \quad i_t = \sigma(W_x x_t + b_x) \\
        a_t &= \exp(-8 \, \mathrm{softplus}(\Lambda) \odot r_t) \\
        h_t &= a_t \odot h_{t-1} + \sqrt{1 - a_t^2} \odot (i_t \odot x_t)

    The output is :math:`h_t`. Initially, :math:`a_t` at an open gate (:math:`r_t = 1`) is uniform between `shortest`
    and `longest`.

    Example:
      >>> cell = jaxrnn.RGLRU()
      >>> params = cell.init(jax.random.key(0), input_size=8)
      >>> xs = jnp.zeros((20, 32, 8))  # [time, batch, input]
      >>> state, ys = jaxrnn.unroll(cell, params, xs, loop=jaxrnn.loops.AssociativeScan())
      >>> ys.shape
      (20, 32, 8)

    Args:
      shortest: Smallest initial value of :math:`a_t` at an open gate, for the shortest memory.
      longest: Largest initial value of :math:`a_t` at an open gate, for the longest memory.

    References:
      S. De et al., "Griffin: mixing gated linear recurrences with local attention for efficient language models", 2024.

    Deviations:
      The gates have full matrices, where the paper's are block-diagonal.
    """

    _: KW_ONLY
    shortest: float = 0.9
    longest: float = 0.999

    def __post_init__(self) -> None:
        check.above(self, "shortest", 0)
        check.rate(self, "longest")
        if self.shortest > self.longest:
            raise ValueError(
                f"RGLRU's shortest must be at most its longest, {self.longest!r}, but it is {self.shortest!r}"
            )

    def init(self, key: Array, input_size: int) -> RGLRUParams:
        k_x, k_a = jax.random.split(key)
        a = jax.random.uniform(k_a, (input_size,), minval=self.shortest, maxval=self.longest)
        decay = jnp.log(jnp.expm1(-jnp.log(a) / C))  # so that exp(-8 softplus(decay)) is a
        w_x = gates(glorot_uniform, k_x, (input_size, input_size), 2)
        return RGLRUParams(w_x, jnp.zeros(2 * input_size), decay)

    def initial_state(self, params, batch_shape=(), dtype=None) -> RGLRUState:
        return RGLRUState(*zeros(params, batch_shape, dtype, params.decay.shape[-1]))

    def project(self, params: RGLRUParams, x: Array, key: Keys = None) -> RGLRUInput:
        x_itself = as_features(x, params.decay.shape[0], params.decay.dtype)
        return RGLRUInput(affine(x, params.w_x, params.b), x_itself)

    def coefficients(self, params: RGLRUParams, z: RGLRUInput) -> tuple[RGLRUState, RGLRUState]:
        r, i = jnp.split(sigmoid(z.gates), 2, axis=-1)
        log_a = -C * align(jax.nn.softplus(params.decay), r) * r
        b = jnp.sqrt(-jnp.expm1(2 * log_a)) * i * z.x
        return RGLRUState(h=jnp.exp(log_a)), RGLRUState(h=b)

    def readout(self, params: RGLRUParams, state: RGLRUState, z: RGLRUInput) -> Array:
        return state.h
