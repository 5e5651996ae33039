"""The liquid time-constant network."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array
from jax.nn import softplus

from jaxrnn.initializers import glorot_uniform, orthogonal
from jaxrnn.layer import Cell, Keys
from jaxrnn.ops import affine, sigmoid, zeros


class LTCParams(NamedTuple):
    w_x: Array  # [input, hidden]
    w_h: Array  # [hidden, hidden]
    b: Array  # [hidden]
    a: Array  # [hidden]
    tau: Array  # [hidden], before softplus


class LTCState(NamedTuple):
    h: Array  # [*batch, hidden]


@dataclass(frozen=True)
class LTC(Cell):
    r"""Liquid time-constant network, by the paper's fused solver.

    .. math::
        \frac{dh}{dt} &= -\left(\frac{1}{\tau} + f(h, x)\right) \odot h + f(h, x) \odot A \\
        f(h, x) &= \phi(\gamma x + \gamma_r h + \mu)

    of which one step is :math:`L` times

    .. math:: h \leftarrow \frac{h + \Delta t \, f(h, x) \odot A}{1 + \Delta t \, (1 / \tau + f(h, x))}

    The output is :math:`h`. :math:`\tau` is the softplus of its parameter, and 1 at first.

    Args:
      hidden_size: size of :math:`h`.
      dt: :math:`\Delta t`, the solver's step.
      unfolds: :math:`L`, how many of them for one step of the network; a positive integer.
      activation: :math:`\phi`, elementwise and not negative, so that the solver is stable.

    References: R. Hasani, M. Lechner, A. Amini, D. Rus, R. Grosu, "Liquid time-constant networks", 2021, algorithm 1.
    Deviation: the logistic function where the paper takes tanh.
    """

    hidden_size: int
    dt: float = 1 / 6
    unfolds: int = 6
    activation: Callable[[Array], Array] = sigmoid

    def init(self, key: Array, input_size: int) -> LTCParams:
        n = self.hidden_size
        k_x, k_h, k_a = jax.random.split(key, 3)
        w_x = glorot_uniform(k_x, (input_size, n))
        tau = jnp.full(n, jnp.log(jnp.expm1(1.0)))
        return LTCParams(w_x, orthogonal(k_h, (n, n)), jnp.zeros(n), jax.random.normal(k_a, (n,)), tau)

    def initial_state(self, params, batch_shape=(), dtype=None) -> LTCState:
        return LTCState(*zeros(params, batch_shape, dtype, self.hidden_size))

    def project(self, params: LTCParams, x: Array, key: Keys = None) -> Array:
        return affine(x, params.w_x, params.b)

    def step(self, params: LTCParams, state: LTCState, z: Array) -> LTCState:
        h = state.h
        for _ in range(self.unfolds):
            f = self.activation(z + h @ params.w_h)
            h = (h + self.dt * f * params.a) / (1 + self.dt * (1 / softplus(params.tau) + f))
        return LTCState(h=h)

    def readout(self, params: LTCParams, state: LTCState, z: Array) -> Array:
        return state.h
