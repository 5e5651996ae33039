"""The retention of RetNet."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxrnn import _check as check
from jaxrnn.initializers import gates, glorot_uniform
from jaxrnn.layer import Keys, LinearCell, joint_dtype
from jaxrnn.ops import affine, spread_like


class RetentionParams(NamedTuple):
    w_x: Array  # [input, 3 * hidden], in the order q, k, v; of each the heads side by side


class RetentionState(NamedTuple):
    s: Array  # complex [*batch, heads, hidden / heads / 2 (keys), hidden / heads (values)]


class RetentionInput(NamedTuple):
    q: Array  # [*batch, heads, hidden / heads], as k and v
    k: Array
    v: Array


@dataclass(frozen=True)
class Retention(LinearCell):
    r"""Retention: linear attention whose memory decays, in each head at its rate, and turns. In the head number h:

    .. math::
        q_t &= W_q x_t, \quad k_t = W_k x_t, \quad v_t = W_v x_t, \quad
            \hat q_j = q_j + i q_{j + d/2}, \quad \hat k_j = k_j + i k_{j + d/2} \\
        S_t &= \gamma_h \, \mathrm{diag}(e^{i \theta}) S_{t-1} + \hat k_t^* v_t^\top,
            \quad \gamma_h = 1 - 2^{-5 - h}, \quad \theta_j = 10000^{-2 j / d} \\
        y_t &= \mathrm{Re}(S_t^\top \hat q_t)

    The output is :math:`y_t` of all heads. It equals attention with rotary positions and no softmax, times
    :math:`\gamma_h^{t - s}`; the rotation by the distance t - s is the memory's, so that no step is counted.

    Args:
      hidden_size: size of :math:`y`, and of the queries, keys and values of all heads.
      num_heads: how many memories there are, each of an even size d = hidden_size / num_heads.

    References: Y. Sun et al., "Retentive network: a successor to transformer for large language models", 2023, section
    2.1. Deviations: pairs of the two halves of a vector turn, not of neighbours; without the block around
    the cell (normalization by heads, gate, projection).
    """

    hidden_size: int
    num_heads: int = 1

    def __post_init__(self) -> None:
        check.divides(self, "num_heads", "hidden_size")
        if self.hidden_size // self.num_heads % 2:
            raise ValueError(
                f"Retention's heads must have an even size, but it is {self.hidden_size} / {self.num_heads}"
            )

    def init(self, key: Array, input_size: int) -> RetentionParams:
        return RetentionParams(gates(glorot_uniform, key, (input_size, self.hidden_size), 3))

    def initial_state(self, params, batch_shape=(), dtype=None) -> RetentionState:
        dtype = jnp.result_type(joint_dtype(params) if dtype is None else dtype, jnp.complex64)
        d = self.hidden_size // self.num_heads
        return RetentionState(spread_like(params, jnp.zeros((*batch_shape, self.num_heads, d // 2, d), dtype)))

    def project(self, params: RetentionParams, x: Array, key: Keys = None) -> RetentionInput:
        parts = jnp.split(affine(x, params.w_x), 3, axis=-1)
        return RetentionInput(*(part.reshape(*part.shape[:-1], self.num_heads, -1) for part in parts))

    def coefficients(self, params: RetentionParams, z: RetentionInput) -> tuple[RetentionState, RetentionState]:
        d = self.hidden_size // self.num_heads
        gamma = 1 - 2.0 ** (-5 - np.arange(self.num_heads))
        theta = 10000.0 ** (-2 * np.arange(d // 2) / d)
        b = _complex(z.k).conj()[..., :, None] * z.v[..., None, :]
        a = jnp.asarray(gamma[:, None, None] * np.exp(1j * theta)[:, None], b.dtype)
        return RetentionState(jnp.broadcast_to(a, (*b.shape[:-1], 1))), RetentionState(b)

    def readout(self, params: RetentionParams, state: RetentionState, z: RetentionInput) -> Array:
        y = (_complex(z.q)[..., :, None] * state.s).sum(-2).real
        return y.reshape(*y.shape[:-2], self.hidden_size)


def _complex(x: Array) -> Array:
    real, imaginary = jnp.split(x, 2, axis=-1)
    return real + 1j * imaginary
