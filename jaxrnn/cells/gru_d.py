"""Gated recurrent unit with decays, for missing values."""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from jaxrnn import _check as check
from jaxrnn.initializers import Chrono, gate_biases, gates, glorot_uniform, orthogonal
from jaxrnn.layer import Cell, Keys
from jaxrnn.ops import affine, align, sigmoid, tanh, zeros


class GRUDParams(NamedTuple):
    w_x: Array  # [values, 3 * hidden], gates in the order r, z, a
    w_m: Array  # [values, 3 * hidden], from the mask
    w_h: Array  # [hidden, 2 * hidden], gates in the order r, z
    w_a: Array  # [hidden, hidden], for the candidate
    b: Array  # [3 * hidden]
    mean: Array  # [values], to which missing values decay
    w_dx: Array  # [values], diagonal of the matrix in the decay of the values
    b_dx: Array  # [values]
    w_dh: Array  # [values, hidden], for the decay of the state
    b_dh: Array  # [hidden]


class GRUDState(NamedTuple):
    h: Array  # [*batch, hidden]
    x: Array  # [*batch, values], the last observed values
    age: Array  # [*batch, values], time since each value was last observed, 0 if it is observed now


@dataclass(frozen=True)
class GRUD(Cell):
    r"""Gated recurrent unit with decays (GRU-D), for missing values and uneven time steps.

    The longer a value has been missing, the closer its replacement is to the value's mean. The state also decays with
    the time since the last observations. The remaining equations are those of a GRU that also reads the mask.

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
    values (any number, even NaN, where they are missing), the mask (1: observed, 0: missing) and the time since the
    previous step, 0 at the first step. :math:`x'` is the last observed value, or :math:`\tilde x` if there is none yet.
    The output is :math:`h_t`.

    Example:
      >>> values = jnp.array([[0.5, 1.0], [jnp.nan, 2.0], [0.7, jnp.nan]])
      >>> mask = 1.0 - jnp.isnan(values)
      >>> gaps = jnp.array([[0.0], [2.0], [0.5]])
      >>> cell = jaxrnn.GRUD(hidden_size=16)
      >>> params = cell.init(jax.random.key(0), input_size=5)
      >>> state, ys = jaxrnn.unroll(cell, params, jnp.concatenate([values, mask, gaps], axis=-1))
      >>> ys.shape, bool(jnp.isfinite(ys).all())
      ((3, 16), True)

    Args:
      hidden_size: Size of :math:`h`.
      keep_bias: Initial value of :math:`-b_z`: a number, or `Chrono(longest)`. Above zero the state lasts longer.

    References:
      Z. Che, S. Purushotham, K. Cho, D. Sontag, Y. Liu, "Recurrent neural networks for multivariate time series with
      missing values", 2018.

    Deviations:
      :math:`\tilde x`, the mean of the training data in the paper, is a parameter. It is initialized to zero; the
      caller may set it to the mean.
    """

    hidden_size: int
    _: KW_ONLY
    keep_bias: float | Chrono = 0.0

    def __post_init__(self) -> None:
        check.positive(self, "hidden_size")
        check.gate_bias(self, "keep_bias")

    def init(self, key: Array, input_size: int) -> GRUDParams:
        n, d = self.hidden_size, input_size // 2
        if input_size < 3 or input_size % 2 == 0:
            raise ValueError(
                "GRUD reads d values, their mask and the time since the previous step: "
                f"the input size must be 2 * d + 1, but it is {input_size}"
            )
        k_x, k_m, k_h, k_a, k_b, k_d = jax.random.split(key, 6)
        w_x = gates(glorot_uniform, k_x, (d, n), 3)
        w_m = gates(glorot_uniform, k_m, (d, n), 3)
        w_h = gates(orthogonal, k_h, (n, n), 2)
        w_a = orthogonal(k_a, (n, n))
        b_keep, _ = gate_biases(k_b, self.keep_bias, n)
        b = jnp.concatenate([jnp.zeros(n), -b_keep, jnp.zeros(n)])
        w_dh = jnp.abs(glorot_uniform(k_d, (d, n)))  # max(0, ...) of a negative number has no gradient
        return GRUDParams(w_x, w_m, w_h, w_a, b, jnp.zeros(d), jnp.ones(d), jnp.zeros(d), w_dh, jnp.zeros(n))

    def initial_state(self, params, batch_shape=(), dtype=None) -> GRUDState:
        d = params.mean.shape[0]
        h, x, age = zeros(params, batch_shape, dtype, self.hidden_size, d, d)
        return GRUDState(h=h, x=x + align(params.mean.astype(x.dtype), x), age=age)

    def project(self, params: GRUDParams, x: Array, key: Keys = None) -> tuple:
        d = params.mean.shape[0]
        check.numbers(self, x, "reads values, their mask and a time", f"give it {2 * d + 1} features per step")
        x, m, gap = jnp.split(x, [d, 2 * d], axis=-1)
        return jnp.where(m == 0, 0, x), m, gap, affine(m, params.w_m, params.b)

    def step(self, params: GRUDParams, state: GRUDState, z: tuple) -> GRUDState:
        n = self.hidden_size
        x, m, gap, z_m = z
        delta = gap + state.age
        w_dx, b_dx, mean = align((params.w_dx, params.b_dx, params.mean), delta)
        decay_x = jnp.exp(-jax.nn.relu(w_dx * delta + b_dx))
        decay_h = jnp.exp(-jax.nn.relu(affine(delta, params.w_dh, params.b_dh)))
        x_hat = m * x + (1 - m) * (decay_x * state.x + (1 - decay_x) * mean)
        h = decay_h * state.h
        z_x = z_m + x_hat @ params.w_x
        r, update = jnp.split(sigmoid(z_x[..., : 2 * n] + h @ params.w_h), 2, axis=-1)
        a = tanh(z_x[..., 2 * n :] + (r * h) @ params.w_a)
        h = (1 - update) * h + update * a
        return GRUDState(h=h, x=m * x + (1 - m) * state.x, age=(1 - m) * delta)

    def readout(self, params: GRUDParams, state: GRUDState, z: tuple) -> Array:
        return state.h
