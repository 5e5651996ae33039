"""The gated recurrent unit with decays, for missing values."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from jaxrnn.initializers import Chrono, gate_biases, gates, glorot_uniform, orthogonal
from jaxrnn.layer import Cell, Keys
from jaxrnn.ops import affine, sigmoid, tanh, zeros


class GRUDParams(NamedTuple):
    w_x: Array  # [values, 3 * hidden], gates in the order r, z, a
    w_m: Array  # [values, 3 * hidden], of the mask
    w_h: Array  # [hidden, 2 * hidden], gates in the order r, z
    w_a: Array  # [hidden, hidden], of the candidate
    b: Array  # [3 * hidden]
    mean: Array  # [values], what missing values decay to
    w_dx: Array  # [values], the diagonal of the values' decay
    b_dx: Array  # [values]
    w_dh: Array  # [values, hidden], of the state's decay
    b_dh: Array  # [hidden]


class GRUDState(NamedTuple):
    h: Array  # [*batch, hidden]
    x: Array  # [*batch, values], observed last
    age: Array  # [*batch, values], of what was observed last, 0 if it was now


@dataclass(frozen=True)
class GRUD(Cell):
    r"""Gated recurrent unit with decays (GRU-D), for values that are missing and steps at uneven times.

    .. math::
        \delta_t &= \Delta_t + (1 - m_{t-1}) \odot \delta_{t-1} \\
        \gamma^x_t &= \exp(-\max(0, w_{\gamma x} \odot \delta_t + b_{\gamma x})) \\
        \gamma^h_t &= \exp(-\max(0, W_{\gamma h} \delta_t + b_{\gamma h})) \\
        \hat x_t &= m_t \odot x_t + (1 - m_t) \odot (\gamma^x_t \odot x'_t + (1 - \gamma^x_t) \odot \tilde x) \\
        \hat h_{t-1} &= \gamma^h_t \odot h_{t-1} \\
        r_t &= \sigma(W_r \hat x_t + R_r \hat h_{t-1} + V_r m_t + b_r) \\
        z_t &= \sigma(W_z \hat x_t + R_z \hat h_{t-1} + V_z m_t + b_z) \\
        a_t &= \tanh(W_a \hat x_t + R_a (r_t \odot \hat h_{t-1}) + V_a m_t + b_a) \\
        h_t &= (1 - z_t) \odot \hat h_{t-1} + z_t \odot a_t

    The input of a step is :math:`(x_t, m_t, \Delta_t)` side by side, :math:`2 d + 1` features for :math:`d` values: the
    values (anything, NaN too, where missing), the mask (1: observed, 0: missing) and the time since the step before,
    0 at the first. :math:`x'` is the value observed last, or :math:`\tilde x` before there is one.
    The output is :math:`h_t`.

    Args:
      hidden_size: size of :math:`h`.
      keep_bias: initial value of :math:`-b_z`, a number or `Chrono(longest)`; above zero the state lasts longer.

    References: Z. Che, S. Purushotham, K. Cho, D. Sontag, Y. Liu, "Recurrent neural networks for multivariate time
    series with missing values", 2018. Deviation: :math:`\tilde x`, there the training data's mean, is a parameter,
    zero at first or what one puts there.
    """

    hidden_size: int
    keep_bias: float | Chrono = 0.0

    def init(self, key: Array, input_size: int) -> GRUDParams:
        n, d = self.hidden_size, input_size // 2
        if input_size < 3 or input_size % 2 == 0:
            raise ValueError(
                "GRUD reads d values, their mask and the time since the step before: "
                f"the input size must be 2 * d + 1, but it is {input_size}"
            )
        k_x, k_m, k_h, k_a, k_b, k_d = jax.random.split(key, 6)
        w_x, w_m = gates(glorot_uniform, k_x, (d, n), 3), gates(glorot_uniform, k_m, (d, n), 3)
        w_h, w_a = gates(orthogonal, k_h, (n, n), 2), orthogonal(k_a, (n, n))
        b_keep, _ = gate_biases(k_b, self.keep_bias, n)
        b = jnp.concatenate([jnp.zeros(n), -b_keep, jnp.zeros(n)])
        w_dh = jnp.abs(glorot_uniform(k_d, (d, n)))  # where a decay is negative it is none, and has no gradient
        return GRUDParams(w_x, w_m, w_h, w_a, b, jnp.zeros(d), jnp.ones(d), jnp.zeros(d), w_dh, jnp.zeros(n))

    def initial_state(self, params, batch_shape=(), dtype=None) -> GRUDState:
        d = params.mean.shape[0]
        h, x, age = zeros(params, batch_shape, dtype, self.hidden_size, d, d)
        return GRUDState(h=h, x=x + params.mean.astype(x.dtype), age=age)

    def project(self, params: GRUDParams, x: Array, key: Keys = None) -> tuple:
        d = params.mean.shape[0]
        x, m, gap = jnp.split(x, [d, 2 * d], axis=-1)
        return jnp.where(m == 0, 0, x), m, gap, affine(m, params.w_m, params.b)

    def step(self, params: GRUDParams, state: GRUDState, z: tuple) -> GRUDState:
        n = self.hidden_size
        x, m, gap, z_m = z
        delta = gap + state.age
        decay_x = jnp.exp(-jax.nn.relu(params.w_dx * delta + params.b_dx))
        decay_h = jnp.exp(-jax.nn.relu(delta @ params.w_dh + params.b_dh))
        x_hat = m * x + (1 - m) * (decay_x * state.x + (1 - decay_x) * params.mean)
        h = decay_h * state.h
        z_x = z_m + x_hat @ params.w_x
        r, update = jnp.split(sigmoid(z_x[..., : 2 * n] + h @ params.w_h), 2, axis=-1)
        a = tanh(z_x[..., 2 * n :] + (r * h) @ params.w_a)
        h = (1 - update) * h + update * a
        return GRUDState(h=h, x=m * x + (1 - m) * state.x, age=(1 - m) * delta)

    def readout(self, params: GRUDParams, state: GRUDState, z: tuple) -> Array:
        return state.h
