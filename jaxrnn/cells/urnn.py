"""Unitary evolution recurrent network."""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxrnn import _check as check
from jaxrnn.initializers import gates, glorot_uniform, uniform
from jaxrnn.layer import Cell, Keys
from jaxrnn.ops import affine, align, complex_dtype, joint_dtype, mod_relu, to_complex, zeros


class URNNParams(NamedTuple):
    w_x: Array  # [input, 2 * hidden], real and imaginary parts
    d: Array  # [3, hidden], angles of D_1, D_2, D_3
    r: Array  # [2, 2 * hidden], real and imaginary parts of the vectors of R_1, R_2
    b: Array  # [hidden]


class URNNState(NamedTuple):
    h: Array  # [*batch, hidden], complex


@dataclass(frozen=True)
class URNN(Cell):
    r"""Unitary evolution recurrent network: a complex state, and a recurrent matrix that preserves its norm.

    The matrix is a product of simple unitary maps with seven parameters per unit, and no product with a full matrix is
    in the loop. `ScoRNN` and `ExpRNN` have full orthogonal matrices of real numbers.

    .. math::
        W &= D_3 R_2 F^{-1} D_2 \Pi R_1 F D_1 \\
        z_t &= W h_{t-1} + V x_t \\
        h_t &= \operatorname{relu}(|z_t| + b) \odot z_t / |z_t| \\
        y_t &= [\operatorname{Re}(h_t); \operatorname{Im}(h_t)]

    where :math:`D = \operatorname{diag}(e^{i d})`, :math:`R = I - 2 r r^* / r^* r`, :math:`F` is the unitary discrete
    Fourier transform, and :math:`\Pi` a fixed permutation. All parameters are real. The output is :math:`y_t`.

    Example:
      >>> cell = jaxrnn.URNN(hidden_size=64)
      >>> params = cell.init(jax.random.key(0), input_size=8)
      >>> state, ys = jaxrnn.unroll(cell, params, jnp.zeros((20, 32, 8)))  # [time, batch, input]
      >>> ys.shape, state.h.shape  # the output holds real and imaginary parts
      ((20, 32, 128), (32, 64))

    Args:
      hidden_size: Size of :math:`h`. The output has twice as many features.
      seed: Random seed of the permutation :math:`\Pi`.

    References:
      M. Arjovsky, A. Shah, Y. Bengio, "Unitary evolution recurrent neural networks", 2016.
    """

    hidden_size: int
    _: KW_ONLY
    seed: int = 0

    def __post_init__(self) -> None:
        check.positive(self, "hidden_size")
        check.at_least(self, "seed", 0)
        if self.seed >= 2**32:
            raise ValueError(f"URNN's seed must be a non-negative integer below 2**32, but it is {self.seed!r}")

    def init(self, key: Array, input_size: int) -> URNNParams:
        n = self.hidden_size
        k_x, k_d, k_r = jax.random.split(key, 3)
        w_x = gates(glorot_uniform, k_x, (input_size, n), 2)
        return URNNParams(w_x, uniform(jnp.pi)(k_d, (3, n)), uniform(1.0)(k_r, (2, 2 * n)), jnp.zeros(n))

    def initial_state(self, params, batch_shape=(), dtype=None) -> URNNState:
        dtype = complex_dtype(joint_dtype(params) if dtype is None else dtype)
        return URNNState(*zeros(params, batch_shape, dtype, self.hidden_size))

    def project(self, params: URNNParams, x: Array, key: Keys = None) -> Array:
        return affine(x, params.w_x)

    def step(self, params: URNNParams, state: URNNState, z: Array) -> URNNState:
        turns = jnp.exp(to_complex(jnp.zeros_like(params.d), params.d))
        d_1, d_2, d_3 = align(tuple(turns), state.h)
        r_1, r_2 = _complex(params.r)
        permutation = np.random.RandomState(self.seed).permutation(self.hidden_size)
        h = _reflected(jnp.fft.fft(d_1 * state.h, norm="ortho"), r_1)
        h = _reflected(jnp.fft.ifft(d_2 * h[..., permutation], norm="ortho"), r_2)
        return URNNState(h=mod_relu(d_3 * h + _complex(z), params.b))

    def readout(self, params: URNNParams, state: URNNState, z: Array) -> Array:
        return jnp.concatenate([state.h.real, state.h.imag], axis=-1)


def _complex(parts: Array) -> Array:
    """Joins real parts, the first half of the last axis, and imaginary parts, the second half."""
    return to_complex(*jnp.split(parts, 2, axis=-1))


def _reflected(h: Array, r: Array) -> Array:
    """Reflects `h` at the hyperplane orthogonal to `r`: multiplies it by R."""
    return h - (h @ r.conj())[..., None] * align(to_complex(2 / (jnp.abs(r) ** 2).sum()) * r, h)
