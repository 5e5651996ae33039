"""The hierarchically gated recurrent network's unit."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import jax.numpy as jnp
from jax import Array
from jax.nn import silu

from jaxrnn.initializers import gates, glorot_uniform
from jaxrnn.layer import Keys, LinearCell
from jaxrnn.ops import affine, joint_dtype, sigmoid, spread_like


class HGRNParams(NamedTuple):
    w_x: Array  # [input, 3 * hidden], in the order c (real parts, imaginary parts), f
    b: Array  # [3 * hidden]
    theta: Array  # [hidden]


class HGRNState(NamedTuple):
    h: Array  # complex [*batch, hidden]


class HGRNInput(NamedTuple):
    c: Array  # [*batch, 2 * hidden]
    f: Array  # [*batch, hidden], lambda


@dataclass(frozen=True)
class HGRN(LinearCell):
    r"""Hierarchically gated recurrent unit: a state of complex numbers, whose gate has a lower bound.

    .. math::
        \mathrm{Re}(c_t) &= \mathrm{silu}(W_{re} x_t + b_{re}), \quad
            \mathrm{Im}(c_t) = \mathrm{silu}(W_{im} x_t + b_{im}) \\
        \lambda_t &= \gamma + (1 - \gamma) \sigma(W_f x_t + b_f) \\
        h_t &= \lambda_t \odot e^{i \theta} \odot h_{t-1} + (1 - \lambda_t) \odot c_t

    The output is :math:`[\mathrm{Re}(h_t), \mathrm{Im}(h_t)]`.

    Args:
      hidden_size: size of :math:`h`, half that of the output.
      lower_rate: the lower bound :math:`\gamma` of the gate; in a stack, higher in layers further up.

    References: Z. Qin, S. Yang, Y. Zhong, "Hierarchically gated recurrent neural network for sequence modeling", 2023.
    Deviations: the lower bound is given, where the paper learns one for each unit, all layers' together; without what
    follows the recurrence (output gate, normalization, projection).
    """

    hidden_size: int
    lower_rate: float = 0.0

    def init(self, key: Array, input_size: int) -> HGRNParams:
        n = self.hidden_size
        theta = 10000.0 ** (-jnp.arange(n) / n)  # as of rotary positions
        return HGRNParams(gates(glorot_uniform, key, (input_size, n), 3), jnp.zeros(3 * n), theta)

    def initial_state(self, params, batch_shape=(), dtype=None) -> HGRNState:
        dtype = jnp.result_type(joint_dtype(params) if dtype is None else dtype, jnp.complex64)
        return HGRNState(spread_like(params, jnp.zeros((*batch_shape, self.hidden_size), dtype)))

    def project(self, params: HGRNParams, x: Array, key: Keys = None) -> HGRNInput:
        c, f = jnp.split(affine(x, params.w_x, params.b), [2 * self.hidden_size], axis=-1)
        return HGRNInput(silu(c), self.lower_rate + (1 - self.lower_rate) * sigmoid(f))

    def coefficients(self, params: HGRNParams, z: HGRNInput) -> tuple[HGRNState, HGRNState]:
        re, im = jnp.split(z.c, 2, axis=-1)
        return HGRNState(h=z.f * jnp.exp(1j * params.theta)), HGRNState(h=(1 - z.f) * (re + 1j * im))

    def readout(self, params: HGRNParams, state: HGRNState, z: HGRNInput) -> Array:
        return jnp.concatenate([state.h.real, state.h.imag], axis=-1)
