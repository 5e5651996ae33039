"""Time mixing of RWKV-4."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from jaxrnn import _check as check
from jaxrnn.initializers import gates, glorot_uniform
from jaxrnn.layer import Cell, Keys
from jaxrnn.ops import affine, align, sigmoid, zeros


class RWKVParams(NamedTuple):
    mu: Array  # [3, input], for r, k, v
    w_x: Array  # [input, 3 * hidden], in the order r, k, v
    decay: Array  # [hidden], the logarithm of w
    u: Array  # [hidden]
    w_o: Array  # [hidden, hidden]


class RWKVState(NamedTuple):
    h: Array  # [*batch, hidden], the gated average
    a: Array  # [*batch, hidden], the weighted sum of values, divided by exp(p)
    b: Array  # [*batch, hidden], the sum of the weights, divided by exp(p)
    p: Array  # [*batch, hidden], the stabilizer
    before: Array  # [*batch, 3 * hidden], what the previous input adds to r, k, v


class RWKVInput(NamedTuple):
    now: Array  # [*batch, 3 * hidden], what the input adds to r, k, v of its own step
    later: Array  # [*batch, 3 * hidden], what it adds to those of the next step


@dataclass(frozen=True)
class RWKV(Cell):
    r"""RWKV's time mixing: an average of past values, weighted by exponentials of their keys that decay over time.

    It plays the part of attention in RWKV-4, with a state whose size does not grow. The sums are stored divided by
    :math:`e^p`, where :math:`p` is the largest of their exponents so far, so that none overflows.

    .. math::
        r_t &= W_r (\mu_r \odot x_t + (1 - \mu_r) \odot x_{t-1}), \quad k_t, v_t \text{ likewise} \\
        wkv_t &= \frac{\sum_{s < t} e^{-(t - 1 - s) w + k_s} \odot v_s + e^{u + k_t} \odot v_t}
                      {\sum_{s < t} e^{-(t - 1 - s) w + k_s} + e^{u + k_t}}, \quad w = e^{decay} \\
        y_t &= W_o (\sigma(r_t) \odot wkv_t)

    The output is :math:`y_t`.

    Example:
      >>> cell = jaxrnn.RWKV(hidden_size=64)
      >>> params = cell.init(jax.random.key(0), input_size=8)
      >>> state, ys = jaxrnn.unroll(cell, params, jnp.zeros((20, 32, 8)))  # [time, batch, input]
      >>> ys.shape
      (20, 32, 64)

    Args:
      hidden_size: Size of :math:`r`, :math:`k`, :math:`v` and :math:`y`.

    References:
      B. Peng et al., "RWKV: reinventing RNNs for the transformer era", 2023, section 3.1 and appendix D.

    Deviations:
      No matrix is initially zero. The mixing factors :math:`\mu` and the decays begin like those of the first of many
      layers in the paper.
    """

    hidden_size: int

    def __post_init__(self) -> None:
        check.positive(self, "hidden_size")

    def init(self, key: Array, input_size: int) -> RWKVParams:
        n = self.hidden_size
        k_x, k_o = jax.random.split(key)
        ramp = jnp.arange(input_size) / input_size
        units = jnp.arange(n, dtype=float)
        return RWKVParams(
            mu=jnp.stack([ramp / 2, ramp, ramp]),
            w_x=gates(glorot_uniform, k_x, (input_size, n), 3),
            decay=-5 + 8 * (units / max(n - 1, 1)) ** 0.7,
            u=jnp.log(0.3) + 0.5 * ((units + 1) % 3 - 1),
            w_o=glorot_uniform(k_o, (n, n)),
        )

    def initial_state(self, params, batch_shape=(), dtype=None) -> RWKVState:
        n = self.hidden_size
        h, a, b, p, before = zeros(params, batch_shape, dtype, n, n, n, n, 3 * n)
        below_any_key = jnp.finfo(p.dtype).min / 2  # so that the first key is the largest exponent
        return RWKVState(h, a, b, p + below_any_key, before)

    def project(self, params: RWKVParams, x: Array, key: Keys = None) -> RWKVInput:
        now = jnp.repeat(params.mu.T, self.hidden_size, axis=1) * params.w_x
        return RWKVInput(*jnp.split(affine(x, jnp.concatenate([now, params.w_x - now], axis=1)), 2, axis=-1))

    def step(self, params: RWKVParams, state: RWKVState, z: RWKVInput) -> RWKVState:
        r, k, v = jnp.split(z.now + state.before, 3, axis=-1)
        u = align(params.u, k)
        q = jnp.maximum(state.p, u + k)
        old = jnp.exp(state.p - q)
        new = jnp.exp(u + k - q)
        wkv = (old * state.a + new * v) / (old * state.b + new)
        decayed = state.p - jnp.exp(align(params.decay, k))
        p = jnp.maximum(decayed, k)
        old = jnp.exp(decayed - p)
        new = jnp.exp(k - p)
        return RWKVState(h=sigmoid(r) * wkv, a=old * state.a + new * v, b=old * state.b + new, p=p, before=z.later)

    def comparable(self, one: RWKVState, other: RWKVState) -> tuple[RWKVState, RWKVState]:
        p = jnp.maximum(one.p, other.p)

        def rescale(state: RWKVState) -> RWKVState:
            scale = jnp.exp(state.p - p)
            return state._replace(a=scale * state.a, b=scale * state.b, p=p)

        return rescale(one), rescale(other)

    def readout(self, params: RWKVParams, state: RWKVState, z: RWKVInput) -> Array:
        return state.h @ params.w_o
