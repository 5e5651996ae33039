"""Linear attention that corrects what it has stored: the delta rule."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array
from jax.nn import silu

from jaxrnn import _check as check
from jaxrnn.initializers import gates, glorot_uniform
from jaxrnn.layer import Cell, Keys
from jaxrnn.ops import affine, sigmoid, zeros

EPSILON = 1e-6  # the keys of an input of zeros are zeros


class DeltaNetParams(NamedTuple):
    w_x: Array  # [input, 3 * hidden], in the order q, k, v; of each the heads side by side
    w_beta: Array  # [input, heads]


class DeltaNetState(NamedTuple):
    s: Array  # [*batch, heads, hidden / heads (values), hidden / heads (keys)]


class DeltaNetInput(NamedTuple):
    q: Array  # [*batch, heads, hidden / heads], as k and v
    k: Array
    v: Array
    beta: Array  # [*batch, heads, 1]


@dataclass(frozen=True)
class DeltaNet(Cell):
    r"""DeltaNet: the value under a key is moved towards a new one, not added to it. In each head:

    .. math::
        q_t &= \frac{\mathrm{silu}(W_q x_t)}{|\mathrm{silu}(W_q x_t)|}, \quad
            k_t = \frac{\mathrm{silu}(W_k x_t)}{|\mathrm{silu}(W_k x_t)|}, \quad v_t = W_v x_t \\
        \beta_t &= \sigma(w_\beta^\top x_t) \\
        S_t &= S_{t-1} + \beta_t (v_t - S_{t-1} k_t) k_t^\top \\
        y_t &= S_t q_t

    The output is :math:`y_t` of all heads. It is linear in its state, but by matrices.

    Args:
      hidden_size: size of :math:`y`, and of the queries, keys and values of all heads.
      num_heads: how many memories there are, of hidden_size / num_heads values and as many keys.

    References: I. Schlag, K. Irie, J. Schmidhuber, "Linear transformers are secretly fast weight programmers", 2021;
    S. Yang et al., "Parallelizing linear transformers with the delta rule over sequence length", 2024, whose feature
    map and normalization these are, with :math:`10^{-6}` added to the squared norm. Deviation: without the block
    around the cell (convolution, normalization, projection).
    """

    hidden_size: int
    num_heads: int = 1

    def __post_init__(self) -> None:
        check.divides(self, "num_heads", "hidden_size")

    def init(self, key: Array, input_size: int) -> DeltaNetParams:
        k_x, k_beta = jax.random.split(key)
        w_x = gates(glorot_uniform, k_x, (input_size, self.hidden_size), 3)
        return DeltaNetParams(w_x, glorot_uniform(k_beta, (input_size, self.num_heads)))

    def initial_state(self, params, batch_shape=(), dtype=None) -> DeltaNetState:
        d = self.hidden_size // self.num_heads
        return DeltaNetState(*zeros(params, (*batch_shape, self.num_heads, d), dtype, d))

    def project(self, params: DeltaNetParams, x: Array, key: Keys = None) -> DeltaNetInput:
        parts = jnp.split(affine(x, params.w_x), 3, axis=-1)
        q, k, v = (part.reshape(*part.shape[:-1], self.num_heads, -1) for part in parts)
        q, k = (a * jax.lax.rsqrt((a**2).sum(-1, keepdims=True) + EPSILON) for a in (silu(q), silu(k)))
        return DeltaNetInput(q, k, v, sigmoid(affine(x, params.w_beta))[..., None])

    def step(self, params: DeltaNetParams, state: DeltaNetState, z: DeltaNetInput) -> DeltaNetState:
        found = (state.s * z.k[..., None, :]).sum(-1)
        return DeltaNetState(state.s + (z.beta * (z.v - found))[..., :, None] * z.k[..., None, :])

    def readout(self, params: DeltaNetParams, state: DeltaNetState, z: DeltaNetInput) -> Array:
        y = jnp.einsum("...vk,...k->...v", state.s, z.q)
        return y.reshape(*y.shape[:-2], self.hidden_size)
