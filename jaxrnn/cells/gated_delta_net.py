"""The delta rule with a gate that forgets."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array
from jax.nn import silu, softplus

from jaxrnn import _check as check
from jaxrnn.initializers import gates, glorot_uniform
from jaxrnn.layer import Cell, Keys
from jaxrnn.ops import affine, sigmoid, zeros

EPSILON = 1e-6  # the keys of an input of zeros are zeros


class GatedDeltaNetParams(NamedTuple):
    w_x: Array  # [input, 3 * hidden], in the order q, k, v; of each the heads side by side
    w_gates: Array  # [input, 2 * heads], in the order alpha, beta
    b_alpha: Array  # [heads]
    a: Array  # [heads], the logarithm of A


class GatedDeltaNetState(NamedTuple):
    s: Array  # [*batch, heads, hidden / heads (values), hidden / heads (keys)]


class GatedDeltaNetInput(NamedTuple):
    q: Array  # [*batch, heads, hidden / heads], as k and v
    k: Array
    v: Array
    alpha: Array  # [*batch, heads, 1], as beta
    beta: Array


@dataclass(frozen=True)
class GatedDeltaNet(Cell):
    r"""Gated DeltaNet: the delta rule on a memory that decays as the input says. In each head:

    .. math::
        q_t &= \frac{\mathrm{silu}(W_q x_t)}{|\mathrm{silu}(W_q x_t)|}, \quad
            k_t = \frac{\mathrm{silu}(W_k x_t)}{|\mathrm{silu}(W_k x_t)|}, \quad v_t = \mathrm{silu}(W_v x_t) \\
        \alpha_t &= \exp(-A \, \mathrm{softplus}(w_\alpha^\top x_t + b_\alpha)), \quad A = e^a, \quad
            \beta_t = \sigma(w_\beta^\top x_t) \\
        S_t &= \alpha_t S_{t-1} (I - \beta_t k_t k_t^\top) + \beta_t v_t k_t^\top \\
        y_t &= S_t q_t

    The output is :math:`y_t` of all heads. It is linear in its state, but by matrices.

    Args:
      hidden_size: size of :math:`y`, and of the queries, keys and values of all heads.
      num_heads: how many memories there are, of hidden_size / num_heads values and as many keys.

    References: S. Yang, J. Kautz, A. Hatamizadeh, "Gated delta networks: improving Mamba2 with delta rule", 2025, with
    :math:`10^{-6}` added to the squared norm. Deviation: without the block around the cell (convolutions,
    output gate, normalization, projection).
    """

    hidden_size: int
    num_heads: int = 1

    def __post_init__(self) -> None:
        check.divides(self, "num_heads", "hidden_size")

    def init(self, key: Array, input_size: int) -> GatedDeltaNetParams:
        heads = self.num_heads
        k_x, k_gates, k_a, k_step = jax.random.split(key, 4)
        w_x = gates(glorot_uniform, k_x, (input_size, self.hidden_size), 3)
        step = jnp.exp(jax.random.uniform(k_step, (heads,), minval=jnp.log(0.001), maxval=jnp.log(0.1)))
        a = jnp.log(jax.random.uniform(k_a, (heads,), minval=1.0, maxval=16.0))
        b_alpha = jnp.log(jnp.expm1(step))  # so that softplus gives these steps
        return GatedDeltaNetParams(w_x, gates(glorot_uniform, k_gates, (input_size, heads), 2), b_alpha, a)

    def initial_state(self, params, batch_shape=(), dtype=None) -> GatedDeltaNetState:
        d = self.hidden_size // self.num_heads
        return GatedDeltaNetState(*zeros(params, (*batch_shape, self.num_heads, d), dtype, d))

    def project(self, params: GatedDeltaNetParams, x: Array, key: Keys = None) -> GatedDeltaNetInput:
        parts = jnp.split(silu(affine(x, params.w_x)), 3, axis=-1)
        q, k, v = (part.reshape(*part.shape[:-1], self.num_heads, -1) for part in parts)
        q, k = (a * jax.lax.rsqrt((a**2).sum(-1, keepdims=True) + EPSILON) for a in (q, k))
        alpha, beta = jnp.split(affine(x, params.w_gates), 2, axis=-1)
        alpha = jnp.exp(-jnp.exp(params.a) * softplus(alpha + params.b_alpha))
        return GatedDeltaNetInput(q, k, v, alpha[..., None], sigmoid(beta)[..., None])

    def step(self, params: GatedDeltaNetParams, state: GatedDeltaNetState, z: GatedDeltaNetInput) -> GatedDeltaNetState:
        s = z.alpha[..., None] * state.s
        found = (s * z.k[..., None, :]).sum(-1)
        return GatedDeltaNetState(s + (z.beta * (z.v - found))[..., :, None] * z.k[..., None, :])

    def readout(self, params: GatedDeltaNetParams, state: GatedDeltaNetState, z: GatedDeltaNetInput) -> Array:
        y = jnp.einsum("...vk,...k->...v", state.s, z.q)
        return y.reshape(*y.shape[:-2], self.hidden_size)
