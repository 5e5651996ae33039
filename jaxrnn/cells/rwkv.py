"""The time mixing of RWKV-4."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from jaxrnn.initializers import gates, glorot_uniform
from jaxrnn.layer import Cell, Keys
from jaxrnn.ops import affine, sigmoid, zeros


class RWKVParams(NamedTuple):
    mu: Array  # [3, input], of r, k, v
    w_x: Array  # [input, 3 * hidden], in the order r, k, v
    decay: Array  # [hidden], the logarithm of w
    u: Array  # [hidden]
    w_o: Array  # [hidden, hidden]


class RWKVState(NamedTuple):
    h: Array  # [*batch, hidden], the gated average
    a: Array  # [*batch, hidden], the sum of values over exp(p)
    b: Array  # [*batch, hidden], the sum of their weights over exp(p)
    p: Array  # [*batch, hidden], the stabilizer
    before: Array  # [*batch, 3 * hidden], what the step before adds to r, k, v


class RWKVInput(NamedTuple):
    now: Array  # [*batch, 3 * hidden], what the step adds to its own r, k, v
    later: Array  # [*batch, 3 * hidden], and to those of the next


@dataclass(frozen=True)
class RWKV(Cell):
    r"""RWKV's time mixing: an average of values whose weights are exponentials of keys, and decay.

    .. math::
        r_t &= W_r (\mu_r \odot x_t + (1 - \mu_r) \odot x_{t-1}), \quad k_t, v_t \text{ likewise} \\
        wkv_t &= \frac{\sum_{s < t} e^{-(t - 1 - s) w + k_s} \odot v_s + e^{u + k_t} \odot v_t}
                      {\sum_{s < t} e^{-(t - 1 - s) w + k_s} + e^{u + k_t}}, \quad w = e^{decay} \\
        y_t &= W_o (\sigma(r_t) \odot wkv_t)

    The output is :math:`y_t`. The sums are kept over :math:`e^p`, where p is the largest of their exponents so far, so
    that none overflows.

    Args:
      hidden_size: size of :math:`r`, :math:`k`, :math:`v` and :math:`y`.

    References: B. Peng et al., "RWKV: reinventing RNNs for the transformer era", 2023, section 3.1 and appendix D.
    Deviation: no matrix begins at zero. Mixtures and decays begin as the paper's in the first of many layers.
    """

    hidden_size: int

    def init(self, key: Array, input_size: int) -> RWKVParams:
        n = self.hidden_size
        k_x, k_o = jax.random.split(key)
        ramp = jnp.arange(input_size) / input_size
        units = jnp.arange(n)
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
        return RWKVState(h, a, b, p + jnp.finfo(p.dtype).min / 2, before)  # nothing yet, whatever the first key is

    def project(self, params: RWKVParams, x: Array, key: Keys = None) -> RWKVInput:
        now = jnp.repeat(params.mu.T, self.hidden_size, axis=1) * params.w_x
        return RWKVInput(*jnp.split(affine(x, jnp.concatenate([now, params.w_x - now], axis=1)), 2, axis=-1))

    def step(self, params: RWKVParams, state: RWKVState, z: RWKVInput) -> RWKVState:
        r, k, v = jnp.split(z.now + state.before, 3, axis=-1)
        q = jnp.maximum(state.p, params.u + k)
        old, new = jnp.exp(state.p - q), jnp.exp(params.u + k - q)
        wkv = (old * state.a + new * v) / (old * state.b + new)
        decayed = state.p - jnp.exp(params.decay)
        p = jnp.maximum(decayed, k)
        old, new = jnp.exp(decayed - p), jnp.exp(k - p)
        return RWKVState(sigmoid(r) * wkv, old * state.a + new * v, old * state.b + new, p, z.later)

    def readout(self, params: RWKVParams, state: RWKVState, z: RWKVInput) -> Array:
        return state.h @ params.w_o
