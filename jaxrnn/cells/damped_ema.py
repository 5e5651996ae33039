"""Damped exponential moving average of Mega."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from jaxrnn import _check as check
from jaxrnn.layer import Keys, LinearCell
from jaxrnn.ops import align, as_features, joint_dtype, sigmoid, spread_like


class DampedEMAParams(NamedTuple):
    alpha: Array  # [input, state], before the sigmoid
    delta: Array  # [input, state], before the sigmoid
    beta: Array  # [input, state]
    eta: Array  # [input, state]


class DampedEMAState(NamedTuple):
    h: Array  # [*batch, input, state]


@dataclass(frozen=True)
class DampedEMA(LinearCell):
    r"""Mega's multi-dimensional damped exponential moving average: several averages of each input feature.

    The recurrence is linear, so `jaxrnn.loops.AssociativeScan` can run all steps in parallel.

    .. math::
        h_t &= \alpha \odot (\beta \odot x_t) + (1 - \alpha \odot \delta) \odot h_{t-1} \\
        y_t &= \sum_j \eta_j \odot h_{t, j}

    where a sigmoid keeps :math:`\alpha` and :math:`\delta` in (0, 1). :math:`\eta` is initialized with variance 1
    divided by the state size, so that :math:`y` does not grow with the state size.

    The output is :math:`y_t`, which has the size of the input. The cell averages the input itself, so symbols become
    one-hot vectors; an `Embedding` before it is cheaper.

    Example:
      >>> cell = jaxrnn.DampedEMA(state_size=16)
      >>> params = cell.init(jax.random.key(0), input_size=8)
      >>> state, ys = jaxrnn.unroll(cell, params, jnp.zeros((20, 4, 8)))  # [time, batch, input]
      >>> ys.shape, state.h.shape  # 16 averages of each of 8 features
      ((20, 4, 8), (4, 8, 16))

    Args:
      state_size: Number of averages of each input feature.

    References:
      X. Ma et al., "Mega: moving average equipped gated attention", 2023, section 3.1.

    Deviations:
      The gated attention that reads the averages is left out.
    """

    state_size: int

    def __post_init__(self) -> None:
        check.positive(self, "state_size")

    def init(self, key: Array, input_size: int) -> DampedEMAParams:
        shape = input_size, self.state_size
        alpha, delta, beta, eta = (jax.random.normal(k, shape) for k in jax.random.split(key, 4))
        signs = 1 - 2 * (jnp.arange(self.state_size, dtype=float) % 2)
        return DampedEMAParams(0.2 * alpha, 0.2 * delta, signs[None] + 0.02 * beta, eta / self.state_size**0.5)

    def initial_state(self, params, batch_shape=(), dtype=None) -> DampedEMAState:
        dtype = joint_dtype(params) if dtype is None else dtype
        return DampedEMAState(spread_like(params, jnp.zeros((*batch_shape, *params.alpha.shape), dtype)))

    def project(self, params: DampedEMAParams, x: Array, key: Keys = None) -> Array:
        return as_features(x, params.alpha.shape[0], params.alpha.dtype)

    def coefficients(self, params: DampedEMAParams, z: Array) -> tuple[DampedEMAState, DampedEMAState]:
        alpha, delta = sigmoid(params.alpha), sigmoid(params.delta)
        b = align(alpha * params.beta, z[..., None]) * z[..., None]
        return DampedEMAState(jnp.broadcast_to(1 - alpha * delta, b.shape)), DampedEMAState(b)

    def readout(self, params: DampedEMAParams, state: DampedEMAState, z: Array) -> Array:
        return (align(params.eta, state.h) * state.h).sum(-1)
