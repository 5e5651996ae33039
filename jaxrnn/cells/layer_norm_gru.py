"""Gated recurrent unit with layer normalization."""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from jaxrnn import _check as check
from jaxrnn.initializers import Chrono, gate_biases, gates, glorot_uniform, orthogonal
from jaxrnn.layer import Cell, Keys
from jaxrnn.ops import affine, align, normalized, sigmoid, tanh, zeros


class LayerNormGRUParams(NamedTuple):
    w_x: Array  # [input, 3 * hidden], gates in the order z, r, a
    w_h: Array  # [hidden, 3 * hidden]
    b: Array  # [3 * hidden]
    b_a: Array  # [hidden], the bias inside the reset
    gain_x: Array  # [3 * hidden]
    gain_h: Array  # [3 * hidden]


class LayerNormGRUState(NamedTuple):
    h: Array  # [*batch, hidden]


class LayerNormGRUGates(NamedTuple):
    z: Array  # [*batch, hidden], update gate
    r: Array  # reset gate
    a: Array  # candidate


@dataclass(frozen=True)
class LayerNormGRU(Cell):
    r"""Gated recurrent unit with layer normalization of the products with the input and with the state.

    Like `GRU`, it applies the reset gate after the recurrent product.

    .. math::
        N(a) &= (a - \mathrm{mean}(a)) / \sqrt{\mathrm{var}(a) + \epsilon} \\
        (z_t, r_t) &= \alpha_1 \odot N(R_g h_{t-1}) + \alpha_2 \odot N(W_g x_t) + b_g \\
        a_t &= \tanh(\alpha_3 \odot N(W_a x_t) + b_3 + \sigma(r_t) \odot (\alpha_4 \odot N(R_a h_{t-1}) + b_4)) \\
        h_t &= (1 - \sigma(z_t)) \odot h_{t-1} + \sigma(z_t) \odot a_t

    The products of both gates are normalized together as one vector, as in the paper, and those of the candidate
    separately. The output is :math:`h_t`.

    Example:
      >>> cell = jaxrnn.LayerNormGRU(hidden_size=64)
      >>> params = cell.init(jax.random.key(0), input_size=8)
      >>> state, ys = jaxrnn.unroll(cell, params, jnp.zeros((20, 4, 8)))  # [time, batch, input]
      >>> ys.shape
      (20, 4, 64)

    Args:
      hidden_size: Size of :math:`h`.
      keep_bias: Initial value of the update gate's part of :math:`-b_g`: a number, or `Chrono(longest)`. Above zero the
        state lasts longer.
      epsilon: :math:`\epsilon`, added to the variance.

    References:
      J. Ba, J. Kiros, G. Hinton, "Layer normalization", 2016, supplementary material.

    Deviations:
      The shifts of the gates' two normalizations are one vector, their sum.
    """

    hidden_size: int
    _: KW_ONLY
    keep_bias: float | Chrono = 0.0
    epsilon: float = 1e-6

    def __post_init__(self) -> None:
        check.positive(self, "hidden_size")
        check.gate_bias(self, "keep_bias")
        check.non_negative(self, "epsilon")

    def init(self, key: Array, input_size: int) -> LayerNormGRUParams:
        n = self.hidden_size
        k_x, k_h, k_b = jax.random.split(key, 3)
        w_x = gates(glorot_uniform, k_x, (input_size, n), 3)
        w_h = gates(orthogonal, k_h, (n, n), 3)
        b_keep, _ = gate_biases(k_b, self.keep_bias, n)
        b = jnp.concatenate([-b_keep, jnp.zeros(2 * n)])
        return LayerNormGRUParams(w_x, w_h, b, jnp.zeros(n), jnp.ones(3 * n), jnp.ones(3 * n))

    def initial_state(self, params, batch_shape=(), dtype=None) -> LayerNormGRUState:
        return LayerNormGRUState(*zeros(params, batch_shape, dtype, self.hidden_size))

    def project(self, params: LayerNormGRUParams, x: Array, key: Keys = None) -> Array:
        a = self._normalized(affine(x, params.w_x), params.gain_x)
        return a + align(params.b, a)

    def gates(self, params: LayerNormGRUParams, state: LayerNormGRUState, z: Array) -> LayerNormGRUGates:
        """Returns the gates and the candidate of a step, given the state before it."""
        n = self.hidden_size
        h = self._normalized(state.h @ params.w_h, params.gain_h)
        update, r = jnp.split(sigmoid(z[..., : 2 * n] + h[..., : 2 * n]), 2, axis=-1)
        return LayerNormGRUGates(update, r, tanh(z[..., 2 * n :] + r * (h[..., 2 * n :] + align(params.b_a, h))))

    def step(self, params: LayerNormGRUParams, state: LayerNormGRUState, z: Array) -> LayerNormGRUState:
        update, _, a = self.gates(params, state, z)
        return LayerNormGRUState(h=(1 - update) * state.h + update * a)

    def readout(self, params: LayerNormGRUParams, state: LayerNormGRUState, z: Array) -> Array:
        return state.h

    def _normalized(self, a: Array, gain: Array) -> Array:
        """Normalizes the part of the gates and that of the candidate separately."""
        gates_a, candidate = jnp.split(a, [2 * self.hidden_size], axis=-1)
        parts = [normalized(part, self.epsilon) for part in (gates_a, candidate)]
        return align(gain, a) * jnp.concatenate(parts, axis=-1)
