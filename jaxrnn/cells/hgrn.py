"""Hierarchically gated recurrent unit."""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass
from typing import NamedTuple

import jax.numpy as jnp
from jax import Array
from jax.nn import silu

from jaxrnn import _check as check
from jaxrnn.initializers import gates, glorot_uniform
from jaxrnn.layer import Keys, LinearCell
from jaxrnn.ops import affine, align, complex_dtype, joint_dtype, sigmoid, spread_like, to_complex


class HGRNParams(NamedTuple):
    w_x: Array  # [input, 3 * hidden], in the order c (real parts, imaginary parts), f
    b: Array  # [3 * hidden]
    theta: Array  # [hidden]


class HGRNState(NamedTuple):
    h: Array  # complex [*batch, hidden]


class HGRNInput(NamedTuple):
    c: Array  # [*batch, 2 * hidden]
    f: Array  # [*batch, hidden], the gate lambda


@dataclass(frozen=True)
class HGRN(LinearCell):
    r"""Hierarchically gated recurrent unit (HGRN): a complex state and a forget gate with a lower bound.

    The gate and the candidate depend on the input only. The closer the lower bound is to 1, the longer the state lasts.

    .. math::
        \mathrm{Re}(c_t) &= \mathrm{silu}(W_{re} x_t + b_{re}), \quad
            \mathrm{Im}(c_t) = \mathrm{silu}(W_{im} x_t + b_{im}) \\
        \lambda_t &= \gamma + (1 - \gamma) \sigma(W_f x_t + b_f) \\
        h_t &= \lambda_t \odot e^{i \theta} \odot h_{t-1} + (1 - \lambda_t) \odot c_t

    The output is :math:`[\mathrm{Re}(h_t), \mathrm{Im}(h_t)]`.

    Example:
      >>> cell = jaxrnn.HGRN(hidden_size=16, lower_rate=0.9)
      >>> params = cell.init(jax.random.key(0), input_size=8)
      >>> state, ys = jaxrnn.unroll(cell, params, jnp.zeros((20, 4, 8)))  # [time, batch, input]
      >>> ys.shape, jnp.iscomplexobj(state.h)
      ((20, 4, 32), True)

    Args:
      hidden_size: Size of :math:`h`, half the size of the output.
      lower_rate: Lower bound of the gate, :math:`\gamma`. In a stack, it is higher in the upper layers.

    References:
      Z. Qin, S. Yang, Y. Zhong, "Hierarchically gated recurrent neural network for sequence modeling", 2023.

    Deviations:
      The lower bound is an argument, while the paper learns one for each unit, jointly for all layers. The operations
      after the recurrence (output gate, normalization, projection) are left out.
    """

    hidden_size: int
    _: KW_ONLY
    lower_rate: float = 0.0

    def __post_init__(self) -> None:
        check.positive(self, "hidden_size")
        check.rate(self, "lower_rate")

    def init(self, key: Array, input_size: int) -> HGRNParams:
        n = self.hidden_size
        theta = 10000.0 ** (-jnp.arange(n) / n)  # the frequencies of rotary position embeddings
        return HGRNParams(gates(glorot_uniform, key, (input_size, n), 3), jnp.zeros(3 * n), theta)

    def initial_state(self, params, batch_shape=(), dtype=None) -> HGRNState:
        dtype = complex_dtype(joint_dtype(params) if dtype is None else dtype)
        return HGRNState(spread_like(params, jnp.zeros((*batch_shape, self.hidden_size), dtype)))

    def project(self, params: HGRNParams, x: Array, key: Keys = None) -> HGRNInput:
        c, f = jnp.split(affine(x, params.w_x, params.b), [2 * self.hidden_size], axis=-1)
        return HGRNInput(silu(c), self.lower_rate + (1 - self.lower_rate) * sigmoid(f))

    def coefficients(self, params: HGRNParams, z: HGRNInput) -> tuple[HGRNState, HGRNState]:
        f = to_complex(z.f)
        turn = jnp.exp(to_complex(jnp.zeros_like(params.theta), params.theta))
        return HGRNState(h=f * align(turn, f)), HGRNState(h=(1 - f) * to_complex(*jnp.split(z.c, 2, axis=-1)))

    def readout(self, params: HGRNParams, state: HGRNState, z: HGRNInput) -> Array:
        return jnp.concatenate([state.h.real, state.h.imag], axis=-1)
