"""Closed-form continuous-time network."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import KW_ONLY, dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from jaxrnn import _check as check
from jaxrnn.initializers import gates, glorot_uniform, orthogonal
from jaxrnn.layer import Cell, Keys
from jaxrnn.ops import affine, sigmoid, tanh, zeros


class CfCParams(NamedTuple):
    w_x: Array  # [input - 1, backbone]
    w_h: Array  # [hidden, backbone]
    b: Array  # [backbone]
    w_u: Array  # [backbone, 3 * hidden], heads in the order f, g, k
    b_u: Array  # [3 * hidden]


class CfCState(NamedTuple):
    h: Array  # [*batch, hidden]


@dataclass(frozen=True)
class CfC(Cell):
    r"""Closed-form continuous-time network: a liquid network's state after any time, without a solver.

    It reads the time between steps, so it suits sequences that are sampled irregularly. `LTC` is the liquid network
    with a solver.

    .. math::
        u_n &= \phi(W I_n + R h_{n-1} + b) \\
        f_n &= W_f u_n + b_f, \quad g_n = \tanh(W_g u_n + b_g), \quad k_n = \tanh(W_k u_n + b_k) \\
        h_n &= \sigma(-f_n t_n) \odot g_n + (1 - \sigma(-f_n t_n)) \odot k_n

    The last feature of the input is :math:`t_n`, the time since the previous step; the others are :math:`I_n`. Symbols
    have no such feature: give them to an `Embedding`, and append the time to its output.

    The output is :math:`h_n`.

    Example:
      >>> cell = jaxrnn.CfC(hidden_size=32, backbone_size=64)
      >>> params = cell.init(jax.random.key(0), input_size=9)  # 8 features and the time since the previous step
      >>> features, times = jnp.zeros((20, 4, 8)), jnp.full((20, 4, 1), 0.5)  # [time, batch, ...]
      >>> state, ys = jaxrnn.unroll(cell, params, jnp.concatenate([features, times], axis=-1))
      >>> ys.shape
      (20, 4, 32)

    Args:
      hidden_size: Size of :math:`h`.
      backbone_size: Size of :math:`u`, the layer that the three heads share.
      activation: :math:`\phi`, an elementwise function such as `jnp.tanh` or `jax.nn.relu`.

    References:
      R. Hasani et al., "Closed-form continuous-time neural networks", 2022, equation 10. Its states x and heads h are
      called h and k here.

    Deviations:
      The backbone has one layer.
    """

    hidden_size: int
    backbone_size: int
    _: KW_ONLY
    activation: Callable[[Array], Array] = tanh

    def __post_init__(self) -> None:
        check.positive(self, "hidden_size", "backbone_size")
        check.function(self, "activation")

    def init(self, key: Array, input_size: int) -> CfCParams:
        if input_size < 2:
            raise ValueError(
                "CfC's input_size must be at least 2, because the last feature is the time since the previous "
                f"step, but it is {input_size!r}"
            )
        n, m = self.hidden_size, self.backbone_size
        k_x, k_h, k_u = jax.random.split(key, 3)
        w_x = glorot_uniform(k_x, (input_size - 1, m))
        w_u = gates(glorot_uniform, k_u, (m, n), 3)
        return CfCParams(w_x, orthogonal(k_h, (n, m)), jnp.zeros(m), w_u, jnp.zeros(3 * n))

    def initial_state(self, params, batch_shape=(), dtype=None) -> CfCState:
        return CfCState(*zeros(params, batch_shape, dtype, self.hidden_size))

    def project(self, params: CfCParams, x: Array, key: Keys = None) -> tuple[Array, Array]:
        check.numbers(self, x, "reads the time from its last feature", "append it to the output of an Embedding")
        return affine(x[..., :-1], params.w_x, params.b), x[..., -1:]

    def step(self, params: CfCParams, state: CfCState, z: tuple[Array, Array]) -> CfCState:
        x_u, time = z
        u = self.activation(x_u + state.h @ params.w_h)
        f, g, k = jnp.split(affine(u, params.w_u, params.b_u), 3, axis=-1)
        gate = sigmoid(-f * time)
        return CfCState(h=gate * tanh(g) + (1 - gate) * tanh(k))

    def readout(self, params: CfCParams, state: CfCState, z: tuple[Array, Array]) -> Array:
        return state.h
